"""Around every HTTP request: an id, a trace, a limit on its body, one count, one time. Plain ASGI: no cost per chunk."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.audit.asked import route
from winnow.serving.telemetry import HTTP_REQUESTS, HTTP_SECONDS, request_id, series
from winnow.tracing import NOT_RECORDED, TRACEPARENT, TRACESTATE, Attributes, Span, arrive, exemplar, own_id

TOO_SLOW, TOO_LARGE = 408, 413
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    def __init__(self, app: ASGIApp, max_body_bytes: int, body_s: float) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        own, started, status = uuid4().hex, time.perf_counter(), 500
        request_id.set(own)
        part = arrive("HTTP", header(scope, TRACEPARENT), header(scope, TRACESTATE), own_id=own, face=True)
        route.set(partial(route_of, scope))

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", own.encode())]
            await send(message)

        try:
            await self._app(scope, self._bounded(receive), tell)
        finally:
            path = path_of(scope)
            series(HTTP_REQUESTS, path, status).inc()
            series(HTTP_SECONDS, path).observe(time.perf_counter() - started, exemplar())
            if part is not NOT_RECORDED:
                told(part, scope["method"], path, status, own)

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that gives up on a body over the limit, however it is sent, and on one that does not come."""
        taken, whole = 0, False
        until = time.monotonic() + self._body_s

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    message = await receive()
            except TimeoutError as late:
                raise HTTPException(TOO_SLOW, f"a body must arrive within {self._body_s:g} s") from late
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._max_body_bytes:
                raise HTTPException(TOO_LARGE, f"a body has at most {self._max_body_bytes} bytes")
            return message

        return bounded


def path_of(scope: Scope) -> str:
    """The template of the route that took the request: what was sent is no label."""
    return getattr(scope.get("route"), "path", "other")


def route_of(scope: Scope) -> str:
    return f"{scope['method']} {path_of(scope)}"


def header(scope: Scope, name: str) -> str:
    """The header, where it came once; "" otherwise."""
    wanted = name.encode()
    found = [value for key, value in scope["headers"] if key == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def told(part: Span, method: str, route: str, status: int, own: str) -> None:
    """End the span of a request: its route, never its address or what it asks for."""
    method = method if method in METHODS else "_OTHER"
    part.rename(f"{method} {route}")
    answered: Attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
    part.end({**answered, **own_id(own)}, str(status) if status >= 500 else "")
