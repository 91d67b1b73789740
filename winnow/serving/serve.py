"""A gRPC server is a list of services; health and reflection are two of them."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from winnow.audit.asked import route
from winnow.errors import DeadlineExceeded, WinnowError
from winnow.pipeline import deadline_in
from winnow.requests import Readiness
from winnow.serving.address import CannotListen, check_free
from winnow.serving.calls import called
from winnow.serving.guard import Guard
from winnow.serving.guarded_calls import Guarded, options
from winnow.serving.identity import Identity, Inside
from winnow.serving.limits import Limits
from winnow.serving.status import BUG, MAX_DETAIL, MAX_MESSAGE_BYTES, OURS, REQUEST_ID, SLUG, code_of, trailers_of
from winnow.serving.telemetry import GRPC_REQUESTS, GRPC_SECONDS, request_id, series
from winnow.serving.tls import Arrows, server_credentials
from winnow.tracing import NOT_RECORDED, TRACEPARENT, TRACESTATE, Span, arrive, exemplar, own_id

log = logging.getLogger(__name__)

HEALTH_EVERY_S = 0.5
LIVE = "live"  # the health service's name for "the event loop answers", whatever the services lack
CONNECTION_AGE_S = 120  # a caller then connects anew, and finds replicas that were not there before; calls finish first
MAX_CONCURRENT_CALLS = 1_000
MAX_PROBES = 20
MESSAGE_S = 10.0  # for the message of a guarded call, where no limits say otherwise
OWN_ID = re.compile(r"[0-9a-f]{32}")
FACE = "/winnow.v1.RecommenderService/"  # calls from outside: where a trace may begin
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a wish
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1_000),
)


@dataclass(frozen=True, slots=True)
class Registration:
    """One service of a server: its full name, how it is added, and whether it can work."""

    name: str
    add: Callable[[Any], None]
    ready: Callable[[], Awaitable[Readiness]]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A started server; `address` holds the real port where 0 was asked for, `health_address` that of the probes'."""

    address: str
    server: grpc.aio.Server
    health: HealthServicer
    watch: asyncio.Task[None]
    grace_s: float
    probes: grpc.aio.Server | None = None
    health_address: str = ""
    names: tuple[str, ...] = ()  # of the services, as health knows them

    async def leave(self) -> None:
        """Say from now on that no call should come here, and answer those that do."""
        self.watch.cancel()
        for name in ("", *self.names):
            await self.health.set(name, NOT_SERVING)

    async def stop(self) -> None:
        """Take no new call, finish what is in flight within `grace_s`."""
        self.watch.cancel()
        with suppress(asyncio.CancelledError):
            await self.watch
        await self.server.stop(self.grace_s)
        if self.probes is not None:
            await self.probes.stop(0)


async def serve_grpc(
    services: Sequence[Registration],
    address: str,
    *,
    grace_s: float = 5.0,
    guard: Guard | None = None,
    limits: Limits | None = None,
    tls: Identity | None = None,
    health_address: str = "",
) -> RunningServer:
    """Start serving on `host:port` (port 0: any free one). CannotListen when the port is taken. A face for strangers has
    `limits`, and where they are to be recognised a `guard`. Among our own (`Inside`) only the diagram's callers are
    answered. `health_address` has the health service alone, for probes without a certificate."""
    check_free(address)  # gRPC writes a line of its own and keeps the reason to itself
    outer = [Guarded(guard, limits.body_s if limits else MESSAGE_S)] if guard or limits else []
    arrows = [Arrows(tls)] if isinstance(tls, Inside) else []
    server = grpc.aio.server(
        interceptors=[*arrows, *outer, Edge()],
        options=tuple((dict(OPTIONS) | (options(limits) if limits else {})).items()),
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    for service in services:
        service.add(server)
    health = HealthServicer()
    await health.set(LIVE, SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = [service.name for service in services]
    reflection.enable_server_reflection((*names, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
    real = opened(server, address, tls)
    probes, probed = await serve_health(health, health_address) if health_address else (None, "")
    await server.start()
    watch = asyncio.create_task(watch_health(health, services), name="grpc-health")
    return RunningServer(real, server, health, watch, grace_s, probes, probed, tuple(names))


async def serve_health(health: HealthServicer, address: str) -> tuple[grpc.aio.Server, str]:
    """The health service and nothing else, in the clear: a kubelet's gRPC probe has no certificate and speaks no TLS."""
    check_free(address)
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MAX_PROBES)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    real = opened(server, address, None)
    await server.start()
    return server, real


def opened(server: grpc.aio.Server, address: str, tls: Identity | None) -> str:
    """The address with its real port."""
    try:
        port = server.add_secure_port(address, server_credentials(tls)) if tls else server.add_insecure_port(address)
    except RuntimeError as taken:
        raise CannotListen(address, "the port was taken this moment") from taken
    return f"{address.rpartition(':')[0]}:{port}"


async def watch_health(health: HealthServicer, services: Sequence[Registration]) -> None:
    """Tell the health service, for ever, which services can work; the empty name stands for all of them."""
    while True:
        every = True
        for service in services:
            ready = await is_ready(service)
            every = every and ready
            await health.set(service.name, SERVING if ready else NOT_SERVING)
        await health.set("", SERVING if every else NOT_SERVING)
        await asyncio.sleep(HEALTH_EVERY_S)


async def is_ready(service: Registration) -> bool:
    try:
        async with asyncio.timeout(2.0):
            return (await service.ready()).ready
    except (WinnowError, TimeoutError):
        return False


def named_by_us(method: str, brought: str) -> str:
    """The request's id that a service of ours brought; "" for what comes from outside: it stands in logs and in the audit
    log, where nobody else chooses words."""
    return "" if method.startswith(FACE) or not OWN_ID.fullmatch(brought) else brought


class Edge(grpc.aio.ServerInterceptor):
    """Around every call: request id, trace and deadline in, errors to statuses out, one count."""

    async def intercept_service(self, continuation: Any, call: Any) -> Any:
        handler = await continuation(call)
        if handler is None or handler.unary_unary is None or not call.method.startswith("/winnow."):
            return handler
        metadata = dict(call.invocation_metadata or ())

        async def guarded(request: Any, context: Any) -> Any:
            own = named_by_us(call.method, str(metadata.get(REQUEST_ID, ""))) or uuid4().hex
            request_id.set(own)
            route.set(lambda: str(call.method))
            deadline_in(context.time_remaining())
            parents = (str(metadata.get(name, "")) for name in (TRACEPARENT, TRACESTATE))
            part = arrive(call.method[1:], *parents, own_id=own, face=call.method.startswith(FACE))
            return await answered(handler.unary_unary, call.method, request, context, part)

        return grpc.unary_unary_rpc_method_handler(
            guarded, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


async def answered(method: Any, name: str, request: Any, context: Any, part: Span = NOT_RECORDED) -> Any:
    """The method's answer, or its error as a status. An error nobody listed is a bug: logged whole, told as INTERNAL."""
    code, detail, started = grpc.StatusCode.OK, "", time.perf_counter()
    try:
        return await method(request, context)
    except WinnowError as error:
        code, detail = code_of(error), error.detail
        context.set_trailing_metadata(trailers_of(error))
    except TimeoutError:
        code, detail = code_of(DeadlineExceeded("")), "ran out of time"
    except Exception:
        log.exception("unexpected error", extra={"method": name})
        code, detail = grpc.StatusCode.INTERNAL, "internal error"
        context.set_trailing_metadata(((SLUG, BUG),))
    finally:
        series(GRPC_REQUESTS, name, code.name).inc()
        series(GRPC_SECONDS, name).observe(time.perf_counter() - started, exemplar())
        if part is not NOT_RECORDED:
            part.end({**called(name[1:], code), **own_id(request_id.get())}, code.name if code in OURS else "")
    return await context.abort(code, detail[:MAX_DETAIL])
