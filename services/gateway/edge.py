"""Around every HTTP request: an id, a limit on its body, one count and one time. Plain ASGI: no cost per chunk."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.serving.telemetry import HTTP_REQUESTS, HTTP_SECONDS, exemplar, request_id

TOO_SLOW, TOO_LARGE = 408, 413


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

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", own.encode())]
            await send(message)

        try:
            await self._app(scope, self._bounded(receive), tell)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            HTTP_REQUESTS.labels(route=route, status=status).inc()
            HTTP_SECONDS.labels(route=route).observe(time.perf_counter() - started, exemplar())

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
