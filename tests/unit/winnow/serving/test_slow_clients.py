"""Clients that open a connection and dawdle, on real sockets: each is let go in time, and honest ones are served meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from services.gateway.build import face
from services.gateway.settings import Settings
from tests.certificates import certified
from tests.gateways import Inner, gateway_over
from winnow.errors import PayloadTooLarge
from winnow.serving.certificates import Files
from winnow.serving.connect import connect
from winnow.serving.http import serve_http
from winnow.serving.identity import Identity
from winnow.serving.limits import Limits
from winnow.serving.serve import serve_grpc
from winnow.types import Item
from winnow.wire import gateway as wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY_S, HEADER_S, IDLE_S = 0.5, 0.5, 1.0
PATIENCE_S = 8.0  # of the tests, on a machine that may stall
LIMITS = Limits(
    max_body_bytes=50_000, max_header_bytes=8_192, max_connections=8, header_s=HEADER_S, body_s=BODY_S, idle_s=IDLE_S
)
REQUEST = b"GET /v1/trending HTTP/1.1\r\nhost: w\r\n\r\n"
POST = b"POST /v1/similar HTTP/1.1\r\nhost: w\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"


@dataclass
class Place:
    rest: str
    grpc: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    """A gateway of fakes on both faces, with little patience."""
    gateway = gateway_over(Inner())
    app = face(Settings(max_body_bytes=LIMITS.max_body_bytes, body_s=BODY_S), gateway)
    http = await serve_http(app, "127.0.0.1:0", grace_s=0.1, limits=LIMITS)
    rpc = await serve_grpc([wire.register(gateway)], "127.0.0.1:0", grace_s=0.1, limits=LIMITS)
    yield Place(http.address, rpc.address)
    await rpc.stop()
    await http.stop()


class Client:
    """A socket that does what honest clients do not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float) -> None:
        self.reader, self.writer, self.began = reader, writer, began

    @classmethod
    async def at(cls, address: str) -> Client:
        host, _, port = address.rpartition(":")
        began = time.monotonic()
        return cls(*await asyncio.open_connection(host, int(port)), began)

    def say(self, words: bytes) -> None:
        self.writer.write(words)

    async def drip(self, words: bytes, every_s: float = 0.05) -> None:
        try:
            for place in range(len(words)):
                self.writer.write(words[place : place + 1])
                await self.writer.drain()
                await asyncio.sleep(every_s)
        except ConnectionError:
            pass

    async def rest(self) -> bytes:
        """All that comes until the other side has closed; fails when it does not."""
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while part := await self.reader.read(65_536):
                    said += part
            except ConnectionError:
                pass
        return said

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def closed(reason: str) -> float:
    return REGISTRY.get_sample_value("winnow_http_connections_closed_total", {"reason": reason}) or 0.0


async def served(place: Place) -> None:
    """An honest client meanwhile."""
    client = await Client.at(place.rest)
    client.say(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert (await client.rest()).startswith(b"HTTP/1.1 200")


async def test_who_says_nothing_is_let_go(place: Place) -> None:
    before = closed("silent")
    client = await Client.at(place.rest)
    assert await client.rest() == b""
    assert client.seconds >= HEADER_S * 0.9
    assert closed("silent") == before + 1


async def test_headers_that_come_a_byte_at_a_time_are_not_waited_for(place: Place) -> None:
    client = await Client.at(place.rest)
    dripping = asyncio.create_task(client.drip(b"GET /v1/trending HTTP/1.1\r\nx: " + b"y" * 500))
    await served(place)
    assert (await client.rest()).startswith(b"HTTP/1.1 408")
    dripping.cancel()


async def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(place: Place) -> None:
    client = await Client.at(place.rest)
    client.say(POST)
    dripping = asyncio.create_task(client.drip(b"{" + b" " * 900))
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in said
    dripping.cancel()


async def test_a_body_that_nobody_reads_is_not_waited_for_either(place: Place) -> None:
    """The route does not exist: its answer comes at once, and the rest of the request never."""
    before = closed("slow_body")
    client = await Client.at(place.rest)
    client.say(POST.replace(b"/v1/similar", b"/v1/nothing"))
    dripping = asyncio.create_task(client.drip(b" " * 900))
    assert (await client.rest()).startswith(b"HTTP/1.1 404")
    assert closed("slow_body") == before + 1
    dripping.cancel()


async def test_a_connection_may_rest_between_requests_but_not_for_ever(place: Place) -> None:
    client = await Client.at(place.rest)
    for _ in range(2):
        client.say(REQUEST)
        assert (await client.reader.read(65_536)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.2)
    assert await client.rest() == b""


async def test_line_ends_are_no_sign_of_life(place: Place) -> None:
    client = await Client.at(place.rest)
    client.say(REQUEST)
    await client.reader.read(65_536)
    dripping = asyncio.create_task(client.drip(b"\r\n" * 300))
    await client.rest()
    assert client.seconds < PATIENCE_S
    dripping.cancel()


async def test_headers_have_a_largest_size(place: Place) -> None:
    for words in (
        REQUEST.replace(b"host: w", b"host: w\r\nx: " + b"y" * 9_000),
        b"GET /v1/trending?" + b"y" * 9_000,
        b"GET /v1/trending HTTP/1.1\r\n" + b"x: y\r\n" * 9_000,
    ):
        client = await Client.at(place.rest)
        client.say(words)
        assert (await client.rest()).startswith(b"HTTP/1.1 431"), words[:40]


async def test_who_does_not_read_the_answer_is_let_go(place: Place) -> None:
    before = closed("slow_reader")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.setblocking(False)
    loop, (host, _, port) = asyncio.get_running_loop(), place.rest.rpartition(":")
    await loop.sock_connect(raw, (host, int(port)))
    asking = asyncio.create_task(
        loop.sock_sendall(raw, b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: w\r\n\r\n" * 20)
    )
    async with asyncio.timeout(PATIENCE_S):
        while closed("slow_reader") == before:  # noqa: ASYNC110  # a counter has no event
            await asyncio.sleep(0.05)
    asking.cancel()
    raw.close()
    await served(place)


async def test_a_face_has_a_largest_number_of_connections(place: Place) -> None:
    before = closed("no_place")
    clients = [await Client.at(place.rest) for _ in range(20)]
    for client in clients:
        assert await client.rest() == b""
    assert closed("no_place") > before
    await served(place)


async def test_requests_behind_each_other_on_one_connection_are_all_answered(place: Place) -> None:
    client = await Client.at(place.rest)
    client.say(REQUEST * 5)
    said = b""
    async with asyncio.timeout(PATIENCE_S):
        while said.count(b"HTTP/1.1 200") < 5:
            said += await client.reader.read(65_536)
    client.writer.close()


@pytest.mark.parametrize(
    ("trusted", "seen"), [("", "127.0.0.1"), ("127.0.0.1", "192.0.2.9"), ("192.0.2.1", "127.0.0.1")]
)
async def test_only_a_trusted_proxy_says_where_a_request_came_from(trusted: str, seen: str) -> None:
    async def address(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})

    http = await serve_http(address, "127.0.0.1:0", grace_s=0.1, limits=replace(LIMITS, trusted_proxies=trusted))
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{http.address}/", headers={"x-forwarded-for": "192.0.2.9"})
    await http.stop()
    assert answer.text == seen


# --------------------------------------------------------------------------------------------------- gRPC


async def test_a_grpc_message_has_the_same_largest_size(place: Place) -> None:
    async with connect(place.grpc) as channel:
        client = wire.GatewayClient(channel, timeout_s=5)
        assert (await client.put_items([Item("a", description="x" * 9_000)])).accepted == 1
        with pytest.raises(PayloadTooLarge):
            await client.put_items([Item(f"i{n}", description="x" * 9_000) for n in range(6)])


async def test_a_grpc_call_without_its_message_does_not_hold_a_place(place: Place) -> None:
    async with connect(place.grpc) as channel:
        silent = [channel.stream_unary("/winnow.v1.RecommenderService/Trending")() for _ in range(5)]
        for call in silent:
            with pytest.raises(grpc.aio.AioRpcError, match="must arrive within"):
                await asyncio.wait_for(call, PATIENCE_S)


async def test_grpc_headers_have_a_largest_size(place: Place) -> None:
    async with connect(place.grpc) as channel:
        trending = channel.unary_unary("/winnow.v1.RecommenderService/Trending")
        await trending(b"", metadata=(("x", "y" * 1_000),), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await trending(b"", metadata=(("x", "y" * 30_000),), timeout=5)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_no_message_is_an_invalid_argument(place: Place) -> None:
    async with connect(place.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/winnow.v1.RecommenderService/Trending")(b"\xff\xff\xff", timeout=5)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_grpc_face_has_a_largest_number_of_connections(place: Place) -> None:
    clients = [await Client.at(place.grpc) for _ in range(20)]
    async with asyncio.timeout(PATIENCE_S):
        while sum(client.reader.at_eof() for client in clients) < 20 - LIMITS.max_connections - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for client in clients:
        client.writer.close()


async def test_who_never_begins_with_tls_is_let_go(tmp_path: Path) -> None:
    """No connection is made, to a web server, before its handshake is done: the other times do not count until then."""
    files = Files.within("test", certified(tmp_path) / "face", mutual=False)
    app = face(Settings(), gateway_over(Inner()))
    http = await serve_http(app, "127.0.0.1:0", grace_s=0.1, limits=LIMITS, tls=Identity("face", files, every_s=60))
    try:
        silent = [await Client.at(http.address) for _ in range(LIMITS.max_connections + 5)]
        for client in silent:
            assert await client.rest() == b""
        trust = ssl.create_default_context(cafile=tmp_path / "face" / "ca.crt")
        async with httpx.AsyncClient(verify=trust, trust_env=False) as honest:
            assert (await honest.get(f"https://{http.address}/healthz")).status_code == 200
    finally:
        await http.stop()
