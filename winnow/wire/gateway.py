"""The Recommender port over gRPC: the platform's face beside REST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio

from winnow.filters import Filter, check_filter
from winnow.ports import Recommender
from winnow.requests import (
    Answer,
    Readiness,
    Recommended,
    RecommendRequest,
    SimilarRequest,
    TrendingRequest,
    Watermarks,
)
from winnow.serving.calls import Caller
from winnow.serving.serve import Registration
from winnow.types import HEADS, Event, Item, Receipt
from winnow.v1 import gateway_pb2 as pb
from winnow.v1 import gateway_pb2_grpc as rpc
from winnow.v1 import types_pb2
from winnow.wire import types as wire

N = 10  # items when a request does not say


def filter_in(message: pb.RecommendRequest | pb.SimilarRequest | pb.TrendingRequest) -> Filter | None:
    if not message.HasField("filter"):
        return None
    tree = wire.filter_of(message.filter)
    check_filter(tree)
    return tree


def recommend_to(request: RecommendRequest) -> pb.RecommendRequest:
    return pb.RecommendRequest(
        person=wire.person_to(request.person),
        n=request.n,
        offset=request.offset,
        context=wire.context_to(request.context),
        query=request.query,
        filter=wire.filter_to(request.filter),
        exclude=request.exclude,
        objectives=request.objectives,
        explain=request.explain,
        include_seen=request.include_seen,
        token=request.token,
        diversity=request.diversity,
    )


def recommend_of(message: pb.RecommendRequest) -> RecommendRequest:
    return RecommendRequest(
        person=wire.person_of(message.person),
        n=message.n if message.HasField("n") else N,
        offset=message.offset,
        context=wire.context_of(message.context),
        query=message.query,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
        objectives=dict(message.objectives),
        explain=message.explain if message.HasField("explain") else True,
        include_seen=message.include_seen,
        token=message.token,
        diversity=message.diversity if message.HasField("diversity") else None,
    )


def similar_to(request: SimilarRequest) -> pb.SimilarRequest:
    return pb.SimilarRequest(
        item_ids=request.item_ids,
        n=request.n,
        offset=request.offset,
        filter=wire.filter_to(request.filter),
        exclude=request.exclude,
    )


def similar_of(message: pb.SimilarRequest) -> SimilarRequest:
    return SimilarRequest(
        item_ids=tuple(message.item_ids),
        n=message.n if message.HasField("n") else N,
        offset=message.offset,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
    )


def trending_to(request: TrendingRequest) -> pb.TrendingRequest:
    return pb.TrendingRequest(
        n=request.n,
        offset=request.offset,
        person=None if request.person is None else wire.person_to(request.person),
        filter=wire.filter_to(request.filter),
        exclude=request.exclude,
    )


def trending_of(message: pb.TrendingRequest) -> TrendingRequest:
    return TrendingRequest(
        n=message.n if message.HasField("n") else N,
        offset=message.offset,
        person=wire.person_of(message.person) if message.HasField("person") else None,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
    )


def recommended_to(line: Recommended) -> pb.Recommended:
    return pb.Recommended(
        item_id=line.item_id,
        rank=line.rank,
        score=line.score,
        predictions=None if line.predictions is None else pb.Recommended.Predictions(**line.predictions),
        sources=line.sources,
        reason=None if line.reason is None else wire.reason_to(line.reason),
        item=None if line.item is None else wire.item_to(line.item, images=False),
    )


def recommended_of(message: pb.Recommended) -> Recommended:
    predictions = {head: getattr(message.predictions, head) for head in HEADS}
    return Recommended(
        item_id=message.item_id,
        rank=message.rank,
        score=message.score,
        predictions=predictions if message.HasField("predictions") else None,
        sources=tuple(message.sources),
        reason=wire.reason_of(message.reason) if message.HasField("reason") else None,
        item=wire.item_of(message.item) if message.HasField("item") else None,
    )


def watermarks_to(marks: Watermarks) -> pb.Watermarks:
    return pb.Watermarks(events=marks.events, features=marks.features, catalogue=marks.catalogue, bundles=marks.bundles)


def watermarks_of(message: pb.Watermarks) -> Watermarks:
    return Watermarks(message.events, message.features, message.catalogue, dict(message.bundles))


def answer_to(answer: Answer) -> pb.Answer:
    return pb.Answer(
        request_id=answer.request_id,
        items=[recommended_to(line) for line in answer.items],
        bundles=answer.bundles,
        variant=answer.variant,
        skipped=answer.skipped,
        watermark=answer.watermark,
        took_ms=answer.took_ms,
        watermarks=watermarks_to(answer.watermarks),
        token_included=answer.token_included,
    )


def answer_of(message: pb.Answer) -> Answer:
    return Answer(
        request_id=message.request_id,
        items=tuple(recommended_of(line) for line in message.items),
        bundles=dict(message.bundles),
        variant=message.variant,
        skipped=tuple(message.skipped),
        watermark=message.watermark,
        took_ms=dict(message.took_ms),
        watermarks=watermarks_of(message.watermarks),
        token_included=message.token_included if message.HasField("token_included") else None,
    )


class RecommenderServicer(rpc.RecommenderServiceServicer):
    def __init__(self, port: Recommender) -> None:
        self._port = port

    async def Recommend(self, request: pb.RecommendBatchRequest, context: Any) -> pb.RecommendBatchResponse:
        answers = await self._port.recommend([recommend_of(one) for one in request.requests])
        return pb.RecommendBatchResponse(answers=[answer_to(answer) for answer in answers])

    async def Similar(self, request: pb.SimilarRequest, context: Any) -> pb.Answer:
        return answer_to(await self._port.similar(similar_of(request)))

    async def Trending(self, request: pb.TrendingRequest, context: Any) -> pb.Answer:
        return answer_to(await self._port.trending(trending_of(request)))

    async def Record(self, request: pb.RecordEventsRequest, context: Any) -> types_pb2.Receipt:
        return wire.receipt_to(await self._port.record([wire.event_of(event) for event in request.events]))

    async def PutItems(self, request: pb.PutCatalogueItemsRequest, context: Any) -> types_pb2.Receipt:
        return wire.receipt_to(await self._port.put_items([wire.item_of(item) for item in request.items]))

    async def Ready(self, request: types_pb2.ReadyRequest, context: Any) -> types_pb2.Readiness:
        return wire.readiness_to(await self._port.ready())


def register(port: Recommender) -> Registration:
    return Registration(
        "winnow.v1.RecommenderService",
        lambda server: rpc.add_RecommenderServiceServicer_to_server(RecommenderServicer(port), server),
        port.ready,
    )


class GatewayClient:
    """A Recommender port that lives in another process. `timeout_s` bounds each call; a nearer deadline wins."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub: Any = rpc.RecommenderServiceStub(channel)
        self._call = Caller("gateway", channel, timeout_s)

    async def recommend(self, requests: Sequence[RecommendRequest]) -> list[Answer]:
        request = pb.RecommendBatchRequest(requests=[recommend_to(one) for one in requests])
        return [answer_of(answer) for answer in (await self._call(self._stub.Recommend, request)).answers]

    async def similar(self, request: SimilarRequest) -> Answer:
        return answer_of(await self._call(self._stub.Similar, similar_to(request)))

    async def trending(self, request: TrendingRequest) -> Answer:
        return answer_of(await self._call(self._stub.Trending, trending_to(request)))

    async def record(self, events: Sequence[Event]) -> Receipt:
        request = pb.RecordEventsRequest(events=[wire.event_to(event) for event in events])
        return wire.receipt_of(await self._call(self._stub.Record, request))

    async def put_items(self, items: Sequence[Item]) -> Receipt:
        request = pb.PutCatalogueItemsRequest(items=[wire.item_to(item) for item in items])
        return wire.receipt_of(await self._call(self._stub.PutItems, request))

    async def ready(self) -> Readiness:
        return wire.readiness_of(await self._call(self._stub.Ready, types_pb2.ReadyRequest()))
