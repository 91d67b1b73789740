"""The Explanation port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio

from winnow.errors import InvalidArgument
from winnow.ports import ExplainQuery, Explanation
from winnow.requests import Readiness
from winnow.serving.calls import Caller
from winnow.serving.serve import Registration
from winnow.types import Reason, strings
from winnow.v1 import explanation_pb2 as pb
from winnow.v1 import explanation_pb2_grpc as rpc
from winnow.v1 import types_pb2
from winnow.wire import types as wire


def query_to(query: ExplainQuery) -> pb.ExplainQuery:
    return pb.ExplainQuery(
        user=wire.user_to(query.user),
        item_ids=query.item_ids.tolist(),
        sources=[pb.ExplainQuery.Sources(names=names) for names in query.sources],
        context=wire.context_to(query.context),
    )


def query_of(message: pb.ExplainQuery) -> ExplainQuery:
    if len(message.sources) != len(message.item_ids):
        raise InvalidArgument("needs one entry per item", field="sources")
    return ExplainQuery(
        user=wire.user_of(message.user),
        item_ids=strings(message.item_ids),
        sources=tuple(tuple(entry.names) for entry in message.sources),
        context=wire.context_of(message.context),
    )


def reasons_to(reasons: Sequence[Reason]) -> pb.ExplainResponse.Reasons:
    return pb.ExplainResponse.Reasons(reasons=[wire.reason_to(reason) for reason in reasons])


def reasons_of(message: pb.ExplainResponse.Reasons) -> tuple[Reason, ...]:
    return tuple(wire.reason_of(reason) for reason in message.reasons)


class ExplanationServicer(rpc.ExplanationServiceServicer):
    def __init__(self, port: Explanation) -> None:
        self._port = port

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        answers = await self._port.explain([query_of(query) for query in request.queries])
        return pb.ExplainResponse(answers=[reasons_to(reasons) for reasons in answers])

    async def Ready(self, request: types_pb2.ReadyRequest, context: Any) -> types_pb2.Readiness:
        return wire.readiness_to(await self._port.ready())


def register(port: Explanation) -> Registration:
    return Registration(
        "winnow.v1.ExplanationService",
        lambda server: rpc.add_ExplanationServiceServicer_to_server(ExplanationServicer(port), server),
        port.ready,
    )


class ExplanationClient:
    """An Explanation port that lives in another process. `timeout_s` bounds each call; a nearer deadline wins."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub: Any = rpc.ExplanationServiceStub(channel)
        self._call = Caller("explanation", channel, timeout_s)

    async def explain(self, queries: Sequence[ExplainQuery]) -> list[tuple[Reason, ...]]:
        request = pb.ExplainRequest(queries=[query_to(query) for query in queries])
        return [reasons_of(answer) for answer in (await self._call(self._stub.Explain, request)).answers]

    async def ready(self) -> Readiness:
        return wire.readiness_of(await self._call(self._stub.Ready, types_pb2.ReadyRequest()))
