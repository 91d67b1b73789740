"""The Retrieval port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc.aio

from winnow.filters import MAX_DEPTH, Filter
from winnow.ports import Retrieval, RetrieveQuery, SimilarQuery, TrendingQuery
from winnow.requests import Readiness
from winnow.serving.calls import Caller
from winnow.serving.serve import Registration
from winnow.types import Candidates
from winnow.v1 import retrieval_pb2 as pb
from winnow.v1 import retrieval_pb2_grpc as rpc
from winnow.v1 import types_pb2
from winnow.wire import types as wire

WITH_RULES = MAX_DEPTH + 3  # levels of a filter: the gateway adds what is blocked to what a request may bring


def query_to(query: RetrieveQuery) -> pb.RetrieveQuery:
    return pb.RetrieveQuery(
        user=wire.user_to(query.user),
        n=query.n,
        context=wire.context_to(query.context),
        query=query.query,
        filter=wire.filter_to(query.filter),
        exclude=query.exclude,
        include_seen=query.include_seen,
        vectors=query.vectors,
    )


def query_of(message: pb.RetrieveQuery) -> RetrieveQuery:
    return RetrieveQuery(
        user=wire.user_of(message.user),
        n=message.n,
        context=wire.context_of(message.context),
        query=message.query,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
        include_seen=message.include_seen,
        vectors=message.vectors,
    )


def similar_to(query: SimilarQuery) -> pb.SimilarCandidatesRequest:
    return pb.SimilarCandidatesRequest(
        item_ids=query.item_ids,
        n=query.n,
        filter=wire.filter_to(query.filter),
        exclude=query.exclude,
        catalogue=query.catalogue,
    )


def similar_of(message: pb.SimilarCandidatesRequest) -> SimilarQuery:
    return SimilarQuery(
        item_ids=tuple(message.item_ids),
        n=message.n,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
        catalogue=message.catalogue,
    )


def trending_to(query: TrendingQuery) -> pb.TrendingCandidatesRequest:
    return pb.TrendingCandidatesRequest(
        n=query.n,
        user=None if query.user is None else wire.user_to(query.user),
        filter=wire.filter_to(query.filter),
        exclude=query.exclude,
    )


def trending_of(message: pb.TrendingCandidatesRequest) -> TrendingQuery:
    return TrendingQuery(
        n=message.n,
        user=wire.user_of(message.user) if message.HasField("user") else None,
        filter=filter_in(message),
        exclude=tuple(message.exclude),
    )


def filter_in(
    message: pb.RetrieveQuery | pb.SimilarCandidatesRequest | pb.TrendingCandidatesRequest,
) -> Filter | None:
    return wire.filter_of(message.filter, WITH_RULES) if message.HasField("filter") else None


class RetrievalServicer(rpc.RetrievalServiceServicer):
    def __init__(self, port: Retrieval) -> None:
        self._port = port

    async def Retrieve(self, request: pb.RetrieveRequest, context: Any) -> pb.RetrieveResponse:
        found = await self._port.retrieve([query_of(query) for query in request.queries])
        return pb.RetrieveResponse(candidates=[wire.candidates_to(candidates) for candidates in found])

    async def Similar(self, request: pb.SimilarCandidatesRequest, context: Any) -> types_pb2.Candidates:
        return wire.candidates_to(await self._port.similar(similar_of(request)))

    async def Trending(self, request: pb.TrendingCandidatesRequest, context: Any) -> types_pb2.Candidates:
        return wire.candidates_to(await self._port.trending(trending_of(request)))

    async def Ready(self, request: types_pb2.ReadyRequest, context: Any) -> types_pb2.Readiness:
        return wire.readiness_to(await self._port.ready())


def register(port: Retrieval) -> Registration:
    return Registration(
        "winnow.v1.RetrievalService",
        lambda server: rpc.add_RetrievalServiceServicer_to_server(RetrievalServicer(port), server),
        port.ready,
    )


class RetrievalClient:
    """A Retrieval port that lives in another process. `timeout_s` bounds each call; a nearer deadline wins."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub: Any = rpc.RetrievalServiceStub(channel)
        self._call = Caller("retrieval", channel, timeout_s)

    async def retrieve(self, queries: Sequence[RetrieveQuery]) -> list[Candidates]:
        request = pb.RetrieveRequest(queries=[query_to(query) for query in queries])
        return [wire.candidates_of(found) for found in (await self._call(self._stub.Retrieve, request)).candidates]

    async def similar(self, query: SimilarQuery) -> Candidates:
        return wire.candidates_of(await self._call(self._stub.Similar, similar_to(query)))

    async def trending(self, query: TrendingQuery) -> Candidates:
        return wire.candidates_of(await self._call(self._stub.Trending, trending_to(query)))

    async def ready(self) -> Readiness:
        return wire.readiness_of(await self._call(self._stub.Ready, types_pb2.ReadyRequest()))
