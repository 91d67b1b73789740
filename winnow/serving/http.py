"""An HTTP face in the event loop of the process: uvicorn without its signal handlers, on a socket of ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from winnow.serving.address import CannotListen, reason
from winnow.serving.identity import Identity
from winnow.serving.leaving import Leaving
from winnow.serving.limits import Limits
from winnow.serving.slow_clients import impatient
from winnow.serving.tls import http_context

KEEP_ALIVE_S = 75
HANDSHAKE_S = 10.0  # of TLS, where no limits say otherwise
BACKLOG = 2048


class Server(uvicorn.Server):
    """The process decides when to stop (`winnow.serving.signals`), for all its faces at once."""

    handshake_s = HANDSHAKE_S

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own over given sockets, but whoever connects and never says what TLS begins with is let go: a
        connection is counted and bounded only once its handshake is done, and uvicorn has no option for that time."""
        await self.lifespan.startup()
        config, loop = self.config, asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            made = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            assert isinstance(made, asyncio.Protocol)
            return made

        patience_s = self.handshake_s if config.ssl else None
        self.servers = [
            await loop.create_server(
                protocol, sock=bound, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=patience_s
            )
            for bound in sockets or ()
        ]
        self.started = True


@dataclass(frozen=True, slots=True)
class RunningHttp:
    """A started HTTP face; `address` holds the real port where 0 was asked for."""

    address: str
    server: Server
    task: asyncio.Task[None]
    leaving: Leaving

    async def leave(self) -> None:
        """Say from now on that no request should come here, and answer those that do."""
        self.leaving.begun = True

    async def stop(self) -> None:
        """Take no new request, finish those in flight within the grace period."""
        self.server.should_exit = True
        await self.task


async def serve_http(
    app: Any, address: str, *, grace_s: float, limits: Limits | None = None, tls: Identity | None = None
) -> RunningHttp:
    """Start serving an ASGI application on `host:port` (port 0: any free one). CannotListen when the port is taken."""
    leaving = Leaving(app)
    host, _, port = address.rpartition(":")
    bound = listen(host, int(port))
    config = uvicorn.Config(
        leaving,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=impatient(limits) if limits else "httptools",
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=bool(limits and limits.trusted_proxies),
        forwarded_allow_ips=limits.trusted_proxies if limits else None,
        timeout_keep_alive=max(1, round(limits.idle_s)) if limits else KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(grace_s)),
        backlog=BACKLOG,
        ssl_context_factory=(lambda config, default: http_context(tls)) if tls else None,
    )
    server = Server(config)
    server.handshake_s = limits.header_s if limits else HANDSHAKE_S
    task = asyncio.create_task(server.serve(sockets=[bound]), name="http")
    while not server.started and not task.done():  # noqa: ASYNC110 (uvicorn offers a flag, not an event)
        await asyncio.sleep(0.005)
    if task.done():
        task.result()
    return RunningHttp(f"{host}:{bound.getsockname()[1]}", server, task, leaving)


def listen(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except OSError as taken:
        bound.close()
        raise CannotListen(f"{host}:{port}", reason(taken)) from taken
    bound.set_inheritable(True)
    return bound
