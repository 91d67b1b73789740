"""A channel that is renewed: after a change of certificates calls go over a fresh one, and the old one ends when the
last call on it has. No call notices.

The fresh one is connected before calls go there. While it cannot be and the old one still can, the old one stays: a peer
may learn of a new authority a little later than we.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from winnow.serving.certificates import Pems
from winnow.serving.identity import Identity

log = logging.getLogger(__name__)

CONNECT_S = 5.0
RETRY_S = 1.0
DRAIN_S = 60.0  # longer than any call lasts

Open = Callable[[Pems], grpc.aio.Channel]


class Generation:
    """One channel between two changes, and how many calls are on it."""

    def __init__(self, channel: grpc.aio.Channel, pems: Pems) -> None:
        self.channel = channel
        self.pems = pems
        self._calls = 0
        self._methods: dict[str, Any] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def call(self, path: str, serializers: dict[str, Any], request: Any, **options: Any) -> Any:
        """Begin a call; what comes back is gRPC's own."""
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self.channel.unary_unary(path, **serializers)
        call = method(request, **options)
        self._calls += 1
        self._idle.clear()
        call.add_done_callback(self._over)
        return call

    async def drain(self) -> None:
        """Close once no call is on it."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._idle.wait()
        finally:
            await self.channel.close()

    def _over(self, call: Any) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    def ready(self) -> bool:
        return self.channel.get_state() is grpc.ChannelConnectivity.READY


class RenewedChannel(grpc.aio.Channel):
    """What `open` makes of the identity's certificates, as they are now. For calls with one request and one answer;
    a stream keeps the channel that it began on."""

    def __init__(self, address: str, open: Open, identity: Identity) -> None:
        self._address = address
        self._open = open
        self._identity = identity
        self._now = Generation(open(identity.pems), identity.pems)
        self._renewal: asyncio.Task[None] | None = None
        self._draining: set[asyncio.Task[None]] = set()
        identity.listen(self._heard)

    @property
    def now(self) -> Generation:
        return self._now

    def _heard(self) -> None:
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew(), name=f"renew-{self._address}")

    async def _renew(self) -> None:
        """Until the channel has the certificates that the identity has."""
        said = False
        while (pems := self._identity.pems) is not self._now.pems:
            fresh = Generation(self._open(pems), pems)
            if await connected(fresh.channel) or not self._now.ready():
                self._drain(self._now)
                self._now = fresh
                continue
            await fresh.channel.close()
            if not said:
                log.warning("%s does not take the new certificate yet; the old connection stays", self._address)
            said = True
            await asyncio.sleep(RETRY_S)

    def _drain(self, old: Generation) -> None:
        draining = asyncio.create_task(old.drain(), name=f"drain-{self._address}")
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)

    def unary_unary(self, method: str, *serializers: Any, **named: Any) -> Any:
        named |= dict(zip(("request_serializer", "response_deserializer"), serializers, strict=False))

        def begin(request: Any, **options: Any) -> Any:
            return self._now.call(method, named, request, **options)

        return begin

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._now.channel.unary_stream(*arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        return self._now.channel.stream_unary(*arguments, **named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        return self._now.channel.stream_stream(*arguments, **named)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._now.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._now.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._now.channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        self._identity.forget(self._heard)
        if self._renewal is not None:
            self._renewal.cancel()
        for draining in list(self._draining):
            draining.cancel()
        await self._now.channel.close(grace)

    async def __aenter__(self) -> RenewedChannel:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


async def connected(channel: grpc.aio.Channel) -> bool:
    """Whether it is within `CONNECT_S`."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await channel.channel_ready()
    except TimeoutError:
        return False
    return True
