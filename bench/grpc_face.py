"""The gateway's gRPC face as a load generator sees it: the generated messages, no conversion to the platform's words."""

from __future__ import annotations

from typing import Any

import grpc.aio

from bench.faces import Reply, fault_of
from winnow.v1 import gateway_pb2 as pb
from winnow.v1 import types_pb2

METHOD = "/winnow.v1.RecommenderService/Recommend"


class GrpcFace:
    """`Recommend` over one channel."""

    def __init__(self, host: str, port: int, items: int) -> None:
        self._items = items
        self._channel = grpc.aio.insecure_channel(f"{host}:{port}")
        self._call: Any = self._channel.unary_unary(
            METHOD,
            request_serializer=pb.RecommendBatchRequest.SerializeToString,
            response_deserializer=pb.RecommendBatchResponse.FromString,
        )

    async def ask(self, user_id: str) -> Reply:
        one = pb.RecommendRequest(person=types_pb2.Person(user_id=user_id), n=self._items)
        try:
            (answer,) = (await self._call(pb.RecommendBatchRequest(requests=[one]))).answers
        except grpc.aio.AioRpcError as refused:
            return Reply(f"status {refused.code().name}")
        return Reply(fault_of([item.item_id for item in answer.items], self._items, answer.skipped), answer.took_ms)

    async def close(self) -> None:
        await self._channel.close()
