"""The guard before every call of a gRPC server, health and reflection too.

A caller is refused before its message is read. The message itself is read here, within a time: whoever opens a call and does
not send one would hold a place for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from winnow.errors import InvalidArgument, WinnowError
from winnow.serving.guard import API_KEY, AUTHORIZATION, Budget, Credentials, Guard
from winnow.serving.limits import Limits
from winnow.serving.principal import principal
from winnow.serving.status import MAX_DETAIL, code_of, trailers_of
from winnow.serving.telemetry import ACCESS, GRPC_REQUESTS

STRANGER_S = 1.0  # for the message of a probe, which has it at hand
MAX_STRANGERS = 50  # probes that wait for their message at once; the other places are for callers who are counted
MAX_STREAMS = 100  # calls at once on one connection
PUSHBACK = "grpc-retry-pushback-ms"  # clients with a retry policy wait that long

Metadata = Sequence[tuple[str, str]]


def options(limits: Limits) -> dict[str, int]:
    """The same limits as gRPC's core knows them, in place of those of every server."""
    return {
        "grpc.max_receive_message_length": limits.max_body_bytes,
        "grpc.max_metadata_size": limits.max_header_bytes,
        "grpc.max_allowed_incoming_connections": limits.max_connections,
        "grpc.max_concurrent_streams": MAX_STREAMS,
        "grpc.server_handshake_timeout_ms": round(limits.header_s * 1_000),
    }


class Guarded(grpc.aio.ServerInterceptor):
    """Outermost of the interceptors. Without a guard it only bounds the time that a message may take."""

    def __init__(self, guard: Guard | None, message_s: float) -> None:
        self._guard = guard
        self._message_s = message_s
        self._strangers = 0

    async def intercept_service(self, continuation: Any, call: Any) -> Any:
        handler = await continuation(call)
        if handler is None:
            return None
        if handler.response_streaming:
            return self._stream(handler, call)
        return self._single(handler, call)

    def _single(self, handler: Any, call: Any) -> Any:
        """One answer. To gRPC it takes a stream, so that it may refuse before a message has come."""

        async def guarded(messages: Any, context: Any) -> Any:
            unasked = await self._admit(call, context)
            raw = await self._message(messages, context, unasked)
            return await handler.unary_unary(await parsed(handler, raw, context), context)

        if handler.request_streaming:  # of ours there is none
            return refusing(handler)
        return grpc.stream_unary_rpc_method_handler(guarded, response_serializer=handler.response_serializer)

    def _stream(self, handler: Any, call: Any) -> Any:
        """Many answers: health's Watch, and reflection."""
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def guarded(messages: Any, context: Any) -> None:
            unasked = await self._admit(call, context)
            if handler.request_streaming:
                answers = method(each(handler, messages), context)
            else:
                raw = await self._message(messages, context, unasked)
                answers = method(await parsed(handler, raw, context), context)
            if hasattr(answers, "__aiter__"):
                async for answer in answers:
                    await context.write(answer)
            else:  # it writes by itself
                await answers

        return grpc.stream_stream_rpc_method_handler(guarded, response_serializer=handler.response_serializer)

    async def _admit(self, call: Any, context: Any) -> bool:
        """Returns for whoever may go on, with the caller set, and whether nobody asked; ends the call of everybody else."""
        if self._guard is None:
            return False
        admission = await self._guard.admit(call.method, credentials_of(call.invocation_metadata or (), context.peer()))
        ACCESS.labels(face="grpc", outcome=admission.outcome).inc()
        principal.set(admission.principal)
        if admission.refusal is not None:
            await refuse(call.method, admission.refusal, admission.budget, context)
        if admission.budget is not None:
            context.set_trailing_metadata(tuple(admission.budget.headers()))
        return admission.unasked

    async def _message(self, messages: Any, context: Any, unasked: bool) -> bytes:
        """The message of an admitted call. Of calls that nobody is asked about only so many may wait for theirs."""
        if not unasked:
            return await within(self._message_s, messages, context)
        if self._strangers >= MAX_STRANGERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many probes wait for their message")
        self._strangers += 1
        try:
            return await within(min(STRANGER_S, self._message_s), messages, context)
        finally:
            self._strangers -= 1


async def within(seconds: float, messages: Any, context: Any) -> bytes:
    """The one message of a call; ends the call when none comes in time."""
    try:
        async with asyncio.timeout(seconds):
            async for message in messages:
                return bytes(message)
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"a message must arrive within {seconds:g} s")
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no message came")
    raise AssertionError("abort raises")


async def parsed(handler: Any, raw: bytes, context: Any) -> Any:
    """The message, by the method's own parser."""
    if handler.request_deserializer is None:
        return raw
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        error = InvalidArgument("the message cannot be read")
        context.set_trailing_metadata(trailers_of(error))
        return await context.abort(code_of(error), error.detail)


async def each(handler: Any, messages: Any) -> AsyncIterator[Any]:
    async for message in messages:
        yield handler.request_deserializer(message)


def refusing(handler: Any) -> Any:
    async def refused(messages: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "streams of requests are not taken")

    return grpc.stream_unary_rpc_method_handler(refused, response_serializer=handler.response_serializer)


async def refuse(method: str, error: WinnowError, budget: Budget | None, context: Any) -> None:
    trailers: list[tuple[str, str | bytes]] = list(trailers_of(error))
    if budget is not None:
        trailers += budget.headers()
        if not budget.allowed:
            trailers.append((PUSHBACK, str(max(1, round(budget.retry_s * 1_000)))))
    context.set_trailing_metadata(tuple(trailers))
    GRPC_REQUESTS.labels(method=method, code=code_of(error).name).inc()
    await context.abort(code_of(error), error.detail[:MAX_DETAIL])


def credentials_of(metadata: Metadata, peer: str) -> Credentials:
    return Credentials(
        [value for name, value in metadata if name == AUTHORIZATION and isinstance(value, str)],
        [value for name, value in metadata if name == API_KEY and isinstance(value, str)],
        address_of(peer),
    )


def address_of(peer: str) -> str:
    """`ipv4:10.0.0.1:5000` or `ipv6:%5B::1%5D:5000` → the address alone; of a Unix socket nothing."""
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
