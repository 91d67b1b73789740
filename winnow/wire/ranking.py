"""The Ranking port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

import grpc.aio
import numpy as np

from winnow.errors import InvalidArgument
from winnow.ports import Ranking, RankQuery
from winnow.requests import Readiness
from winnow.serving.calls import Caller
from winnow.serving.serve import Registration
from winnow.types import HEADS, Predictions, Vector
from winnow.v1 import ranking_pb2 as pb
from winnow.v1 import ranking_pb2_grpc as rpc
from winnow.v1 import types_pb2
from winnow.wire import types as wire

NUMBER = np.dtype("<f8")


def query_to(query: RankQuery) -> pb.RankQuery:
    return pb.RankQuery(
        user=wire.user_to(query.user),
        candidates=wire.candidates_to(query.candidates),
        context=wire.context_to(query.context),
        objectives=query.objectives,
        vector=query.vector,
    )


def query_of(message: pb.RankQuery) -> RankQuery:
    return RankQuery(
        user=wire.user_of(message.user),
        candidates=wire.candidates_of(message.candidates),
        context=wire.context_of(message.context),
        objectives=dict(message.objectives),
        vector=message.vector,
    )


def predictions_to(predictions: Predictions) -> pb.Predictions:
    return pb.Predictions(
        heads=wire.matrix_to(predictions.heads),
        scores=wire.matrix_to(predictions.scores),
        bundle=predictions.bundle,
        vector=None if predictions.vector is None else vector_to(predictions.vector),
    )


def predictions_of(message: pb.Predictions) -> Predictions:
    return Predictions(
        heads=wire.matrix_of(message.heads, len(HEADS), "predictions.heads"),
        scores=wire.matrix_of(message.scores, 1, "predictions.scores")[:, 0],
        bundle=message.bundle,
        vector=vector_of(message.vector) if message.HasField("vector") else None,
    )


def vector_to(vector: Vector) -> pb.Vector:
    return pb.Vector(
        categorical=vector.texts,
        counts=map(len, vector.texts.values()),
        texts=chain.from_iterable(vector.texts.values()),
        numeric=vector.numbers,
        numbers=np.fromiter(vector.numbers.values(), NUMBER, len(vector.numbers)).tobytes(),
        catalogue=vector.catalogue or 0,
    )


def vector_of(message: pb.Vector) -> Vector:
    texts = iter(message.texts)
    if len(message.counts) != len(message.categorical) or sum(message.counts) != len(message.texts):
        raise InvalidArgument("counts do not divide the texts among the names", field="predictions.vector.counts")
    if len(message.numbers) != NUMBER.itemsize * len(message.numeric):
        raise InvalidArgument("is not one float64 for each name", field="predictions.vector.numbers")
    return Vector(
        {name: tuple(islice(texts, n)) for name, n in zip(message.categorical, message.counts, strict=True)},
        dict(zip(message.numeric, np.frombuffer(message.numbers, NUMBER).tolist(), strict=True)),
        message.catalogue,
    )


class RankingServicer(rpc.RankingServiceServicer):
    def __init__(self, port: Ranking) -> None:
        self._port = port

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:
        ranked = await self._port.rank([query_of(query) for query in request.queries])
        return pb.RankResponse(predictions=[predictions_to(predictions) for predictions in ranked])

    async def Ready(self, request: types_pb2.ReadyRequest, context: Any) -> types_pb2.Readiness:
        return wire.readiness_to(await self._port.ready())


def register(port: Ranking) -> Registration:
    return Registration(
        "winnow.v1.RankingService",
        lambda server: rpc.add_RankingServiceServicer_to_server(RankingServicer(port), server),
        port.ready,
    )


class RankingClient:
    """A Ranking port that lives in another process. `timeout_s` bounds each call; a nearer deadline wins."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._stub: Any = rpc.RankingServiceStub(channel)
        self._call = Caller("ranking", channel, timeout_s)

    async def rank(self, queries: Sequence[RankQuery]) -> list[Predictions]:
        request = pb.RankRequest(queries=[query_to(query) for query in queries])
        return [predictions_of(ranked) for ranked in (await self._call(self._stub.Rank, request)).predictions]

    async def ready(self) -> Readiness:
        return wire.readiness_of(await self._call(self._stub.Ready, types_pb2.ReadyRequest()))
