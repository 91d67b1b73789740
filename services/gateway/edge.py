"""Around every HTTP request: an id, a limit on its body, one count and one time. Plain ASGI: no cost per chunk."""

from __future__ import annotations

import time
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.serving.telemetry import HTTP_REQUESTS, HTTP_SECONDS, request_id

TOO_LARGE = 413


class Edge:
    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

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
            HTTP_SECONDS.labels(route=route).observe(time.perf_counter() - started)

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that gives up on a body over the limit, however it is sent."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_body_bytes:
                raise HTTPException(TOO_LARGE, f"a body has at most {self._max_body_bytes} bytes")
            return message

        return bounded
