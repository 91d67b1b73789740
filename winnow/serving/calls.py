"""One way to call a peer: deadline, request id, trace, errors back to their classes."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from winnow.pipeline import remaining_s
from winnow.serving.connect import ADDRESSES
from winnow.serving.status import REQUEST_ID, error_of
from winnow.serving.telemetry import request_id
from winnow.tracing import NOT_RECORDED, Attributes, Kind, headers, span


class Caller:
    """Calls methods of one peer over its channel. `timeout_s` bounds each call; the running stage's deadline, if nearer, wins."""

    def __init__(self, peer: str, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._peer = peer
        self._address = ADDRESSES.get(channel, "")
        self._timeout_s = timeout_s

    async def __call__(self, method: Any, request: Any) -> Any:
        timeout = min(self._timeout_s, remaining_s(self._timeout_s))
        current = request_id.get()
        part, code = span(self._peer, Kind.CLIENT), grpc.StatusCode.CANCELLED
        metadata = (*(((REQUEST_ID, current),) if current else ()), *headers())
        try:
            answer = await method(request, timeout=timeout, metadata=metadata or None)
            code = grpc.StatusCode.OK
            return answer
        except grpc.aio.AioRpcError as broken:
            code = broken.code()
            raise error_of(self._peer, broken, self._address) from broken
        finally:
            if part is not NOT_RECORDED:
                name = name_of(method) or self._peer
                part.rename(name)
                part.end(called(name, code), "" if code is grpc.StatusCode.OK else code.name)


def name_of(method: Any) -> str:
    """What spans and metrics of both ends call it. gRPC tells nobody which method a callable is."""
    return getattr(method, "_method", b"").decode().removeprefix("/")


def called(name: str, code: grpc.StatusCode) -> Attributes:
    """What a span says of a call, in OpenTelemetry's words."""
    service, _, method = name.rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "rpc.response.status_code": code.name}
