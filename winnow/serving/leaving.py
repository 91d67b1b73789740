"""An HTTP application that is about to end: `/readyz` says so, and each answer asks its caller to connect anew.

A load balancer learns within seconds that a process is not ready; until then requests go on coming, and are answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

READY_PATH = "/readyz"
GOING = b'{"type":"urn:winnow:problem:unavailable","title":"A part is unavailable","status":503,"detail":"leaving"}'


Send = Callable[[Any], Awaitable[None]]


class Leaving:
    """Around an ASGI application; it changes nothing until `begun`."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.begun = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self.begun or scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == READY_PATH:
            await not_ready(closing(send))
        else:
            await self._app(scope, receive, closing(send))


def closing(send: Send) -> Send:
    """`send`, of an answer that is the last on its connection."""

    async def last(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await send(message)

    return last


async def not_ready(send: Send) -> None:
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(GOING)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": GOING})
