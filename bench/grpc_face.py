"""The gateway's gRPC face as a load generator sees it: the generated messages, no conversion to the platform's words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import grpc.aio

from bench.faces import Reply, fault_of
from winnow.v1 import gateway_pb2 as pb
from winnow.v1 import types_pb2

METHOD = "/winnow.v1.RecommenderService/Recommend"
CONNECTIONS = 4  # a server refuses more than a hundred calls at once on one, and overload brings more


class GrpcFace:
    """`Recommend` over a few connections in turn."""

    def __init__(self, host: str, port: int, items: int) -> None:
        self._items = items
        own = [("grpc.use_local_subchannel_pool", 1)]  # else all channels share one connection
        self._channels = [grpc.aio.insecure_channel(f"{host}:{port}", options=own) for _ in range(CONNECTIONS)]
        self._calls: Iterator[Any] = cycle(
            channel.unary_unary(
                METHOD,
                request_serializer=pb.RecommendBatchRequest.SerializeToString,
                response_deserializer=pb.RecommendBatchResponse.FromString,
            )
            for channel in self._channels
        )

    async def ask(self, user_id: str) -> Reply:
        one = pb.RecommendRequest(person=types_pb2.Person(user_id=user_id), n=self._items)
        try:
            (answer,) = (await next(self._calls)(pb.RecommendBatchRequest(requests=[one]))).answers
        except grpc.aio.AioRpcError as refused:
            return Reply(f"status {refused.code().name}")
        return Reply(fault_of([item.item_id for item in answer.items], self._items, answer.skipped), answer.took_ms)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()
