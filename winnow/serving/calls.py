"""One way to call a peer: deadline, request id, errors back to their classes."""

from __future__ import annotations

from typing import Any

import grpc.aio

from winnow.pipeline import remaining_s
from winnow.serving.connect import ADDRESSES
from winnow.serving.status import REQUEST_ID, error_of
from winnow.serving.telemetry import request_id


class Caller:
    """Calls methods of one peer over its channel. `timeout_s` bounds each call; the running stage's deadline, if nearer, wins."""

    def __init__(self, peer: str, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._peer = peer
        self._address = ADDRESSES.get(channel, "")
        self._timeout_s = timeout_s

    async def __call__(self, method: Any, request: Any) -> Any:
        timeout = min(self._timeout_s, remaining_s(self._timeout_s))
        current = request_id.get()
        metadata = ((REQUEST_ID, current),) if current else None
        try:
            return await method(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as broken:
            raise error_of(self._peer, broken, self._address) from broken
