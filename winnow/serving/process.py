"""The life of a serving process: faces up, background loops beside them, and an orderly end at SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from winnow.errors import FailedPrecondition, Unavailable, WinnowError
from winnow.serving.address import CannotListen, check_free, reason
from winnow.serving.cores import one_core_a_call
from winnow.serving.guard import Guard
from winnow.serving.identity import Identity
from winnow.serving.limits import Limits
from winnow.serving.memory import tune
from winnow.serving.serve import Registration, RunningServer, serve_grpc
from winnow.serving.settings import ServingSettings, words_of
from winnow.serving.signals import until_stopped
from winnow.serving.telemetry import BUILD, configure_logging, serve_metrics
from winnow.serving.trace_settings import TraceSettings, recorded
from winnow.variables import unread

if TYPE_CHECKING:
    from winnow.serving.http import RunningHttp

log = logging.getLogger(__name__)

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

Loop = Coroutine[Any, Any, None]


@dataclass(frozen=True)
class Process:
    """What a process serves and keeps running. `loops` run for ever beside the faces; one that fails is a bug and ends
    the process. `close` comes last, when nothing calls the services any more."""

    grpc: Sequence[Registration]
    grpc_address: str
    loops: Sequence[Loop] = ()
    http: Any = None  # an ASGI application
    http_address: str = ""
    guard: Guard | None = None  # of the gRPC face; the application brings its own
    limits: Limits | None = None  # for what strangers can reach
    close: Sequence[Callable[[], Awaitable[None] | None]] = ()
    grace_s: float = 10.0
    serving: ServingSettings = field(default_factory=ServingSettings.model_construct)
    tls: Identity | None = None  # of the faces
    identities: Sequence[Identity | None] = ()  # read again when their files change
    said: Callable[[dict[str, str]], None] = field(default=lambda addresses: None)

    async def run(self, until: Callable[[], Awaitable[None]] = until_stopped) -> None:
        """Serve until `until` returns; then finish what is in flight."""
        tune()
        one_core_a_call()
        stopping = asyncio.create_task(awaited(until), name="until-stopped")
        watches = [identity.watch() for identity in self.identities if identity]
        loops = [asyncio.create_task(loop, name=f"loop-{n}") for n, loop in enumerate((*self.loops, *watches))]
        addresses: dict[str, str] = {}
        faces: list[RunningHttp | RunningServer] = []
        try:
            for address in (self.http_address, self.grpc_address) if self.http is not None else ():
                check_free(address)  # both, before one is open and says so
            if self.http is not None:
                from winnow.serving.http import serve_http  # only the gateway's image holds a web server

                http = await serve_http(
                    self.http, self.http_address, grace_s=self.grace_s, limits=self.limits, tls=self.tls
                )
                faces.append(http)
                addresses["rest"] = http.address
            grpc = await serve_grpc(
                self.grpc,
                self.grpc_address,
                grace_s=self.grace_s,
                guard=self.guard,
                limits=self.limits,
                tls=self.tls,
                health_address=self.serving.health_address,
            )
            faces.append(grpc)
            addresses["grpc"] = grpc.address
            log.info("serving on %s", ", ".join(f"{face} {address}" for face, address in addresses.items()))
            self.said(addresses)
            await asyncio.wait([stopping, *loops], return_when=asyncio.FIRST_COMPLETED)
            if self.serving.drain_s and not any(loop.done() for loop in loops):
                await asyncio.gather(*(face.leave() for face in faces))
                log.info("leaving: not ready, answers for another %g s", self.serving.drain_s)
                await asyncio.sleep(self.serving.drain_s)
        finally:
            stopping.cancel()
            await asyncio.gather(*(face.stop() for face in faces))
            for loop in loops:
                loop.cancel()
            ended = await asyncio.gather(*loops, return_exceptions=True)
            for close in self.close:
                if (closing := close()) is not None:
                    await closing
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome


async def after(happened: asyncio.Event, loop: Callable[[], Awaitable[None]]) -> None:
    """`loop()`, once `happened` is set."""
    await happened.wait()
    await loop()


async def awaited(call: Callable[[], Awaitable[None]]) -> None:
    await call()


def start(about: str, settings: type[TraceSettings], build: Callable[[Any], Awaitable[Process]]) -> None:
    """The main function of every service: settings from the environment, build, serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog=program(),
        description=about,
        epilog=environment_of(settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log-level", choices=LEVELS, default="INFO", help="default: INFO")
    parser.add_argument(
        "--metrics-address",
        metavar="HOST:PORT",
        default=os.environ.get("WINNOW_METRICS_ADDRESS", ""),
        help="where a process without an HTTP face shows its metrics (default: nowhere; or WINNOW_METRICS_ADDRESS)",
    )
    arguments = parser.parse_args()
    configure_logging(arguments.log_level)
    for words in unread(os.environ, settings.model_fields):
        log.warning("%s", words)
    try:
        BUILD.labels(component=settings.__module__.split(".")[1], version=version("winnow")).set(1)
        serve_metrics(arguments.metrics_address)
        uvloop.run(main(settings, build))
    except ValidationError as wrong:
        sys.exit(words_of(wrong))
    except WinnowError as error:
        sys.exit(error.detail)


def program() -> str:
    """How this process was started, as one would type it."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name.removesuffix('.__main__')}" if spec else Path(sys.argv[0]).name


async def main(settings: type[TraceSettings], build: Callable[[Any], Awaitable[Process]]) -> None:
    chosen = settings()
    with recorded(chosen, program().rpartition(" ")[2].removeprefix("services.")):
        await live(chosen, build)


async def live(chosen: BaseSettings, build: Callable[[Any], Awaitable[Process]]) -> None:
    """Build, and serve until the end."""
    try:
        process = await build(chosen)
    except OSError as wrong:
        if wrong.filename is None or wrong.errno not in REFUSED:  # nothing that another place would mend
            raise
        remedy = "WINNOW_HOME must name a folder that can be written"
        raise FailedPrecondition(f"cannot write {wrong.filename}: {reason(wrong)}; {remedy}") from wrong
    try:
        await process.run()
    except CannotListen as taken:
        raise Unavailable(f"{taken.detail}; free it, or set {setting_of(chosen, taken.address)} to another") from taken


def setting_of(settings: BaseSettings, address: str) -> str:
    """The environment variables that gave this address."""
    names = [f"WINNOW_{name.upper()}" for name, value in settings if value == address]
    return " or ".join(names) or "its address"


def environment_of(settings: type[BaseSettings]) -> str:
    """The environment variables a service reads, with their defaults."""
    lines = [
        f"  WINNOW_{name.upper()}={field.default!s:<24} {field.description or ''}".rstrip()
        for name, field in sorted(settings.model_fields.items())
    ]
    return "\n".join(["environment:", *lines])
