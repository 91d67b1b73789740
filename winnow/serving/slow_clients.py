"""HTTP connections that do not wait for ever: for headers, for a body, for a reader, or for a place.

uvicorn bounds only the time between two requests. Whoever opens a connection and says nothing, or says it a byte at a time,
is closed here; so is whoever does not read the answer. Headers have a largest size, the face a largest number of connections.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from winnow.serving.limits import Limits
from winnow.serving.telemetry import CONNECTIONS_CLOSED

EXTRA_S = 1.0  # the application, which has the same limit on a body, answers first
TOO_SLOW = b"408 Request Timeout"
TOO_LARGE = b"431 Request Header Fields Too Large"


class Impatient(HttpToolsProtocol):
    """A connection. One timer runs for what the client owes: headers, then the body; another one while it does not read."""

    limits: ClassVar[Limits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owed: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._give_up("no_place")
        else:
            self._expect(self.limits.header_s, "silent")

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_headers and self._header_bytes + len(data) > self.limits.max_header_bytes:
            self._refuse(TOO_LARGE, "headers_too_large")
        elif self._owed is None and self.timeout_keep_alive_task is None and not self._busy():
            self._expect(self.limits.header_s, "silent")  # line ends between requests are no sign of life

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers, self._header_bytes = True, 0
        self._expect(self.limits.header_s, "slow_headers")

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        if self._header_bytes > self.limits.max_header_bytes:
            self._refuse(TOO_LARGE, "headers_too_large")
            return
        self._expect(self.limits.body_s + EXTRA_S, "slow_body")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._expect(None)
        if not self.transport.is_closing():
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.limits.body_s, self._give_up, "slow_reader")

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _busy(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _expect(self, within_s: float | None, reason: str = "") -> None:
        """What the client owes is due then; None: it owes nothing."""
        if self._owed is not None:
            self._owed.cancel()
        self._owed = None if within_s is None else self.loop.call_later(within_s, self._overdue, reason)

    def _overdue(self, reason: str) -> None:
        if self._in_headers and not self._busy():
            self._refuse(TOO_SLOW, reason)
        else:
            self._give_up(reason)

    def _refuse(self, status: bytes, reason: str) -> None:
        """An answer without a body: nobody knows yet what was asked."""
        self.transport.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        CONNECTIONS_CLOSED.labels(reason=reason).inc()
        self.transport.close()

    def _give_up(self, reason: str) -> None:
        if not self.transport.is_closing():
            CONNECTIONS_CLOSED.labels(reason=reason).inc()
        self.transport.abort()


def impatient(limits: Limits) -> type[Impatient]:
    """The connections of one face."""
    return type("Impatient", (Impatient,), {"limits": limits})
