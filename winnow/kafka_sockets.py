"""Sockets of the Kafka client that a failed attempt to connect closes.

The client (kafka-python 3.0) forgets them in cycles of exceptions, so that they stay open until the garbage collector
comes by: a process whose brokers are away gains a descriptor every two seconds, and one past the 1,024th ends whatever
still waits by `select`. Looks like a proxy to the client, which picks the class of its sockets by a proxy's scheme.
"""

from __future__ import annotations

import socket
from typing import Any

from kafka.net.inet import KafkaNetSocket  # type: ignore[import-untyped]

Socket = socket.socket
DIRECT = "winnow-direct://"  # as the client's `proxy_url`: no proxy at all


class ClosingSocket(KafkaNetSocket):  # type: ignore[misc]
    """One attempt after another to reach one address; each makes a socket, and the last one that failed is closed."""

    SCHEMES = ("winnow-direct",)

    def socket(self, *kind: Any) -> Socket:
        self._made: Socket = super().socket(*kind)
        return self._made  # type: ignore[no-any-return]

    async def connect(self, *where: Any, **limits: Any) -> Socket:
        try:
            reached: Socket = await super().connect(*where, **limits)
        except BaseException:
            self._made.close()
            raise
        return reached
