"""The load generator's gRPC face: several connections in turn, and what counts as a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from bench.grpc_face import CONNECTIONS, METHOD, GrpcFace
from winnow.v1 import gateway_pb2 as pb


class Two:
    """Always answers with two items; knows who called."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    async def recommend(self, request: pb.RecommendBatchRequest, context: Any) -> pb.RecommendBatchResponse:
        self.peers.append(context.peer())
        answer = pb.Answer(items=[pb.Recommended(item_id=item_id) for item_id in ("a", "b")])
        return pb.RecommendBatchResponse(answers=[answer])


@asynccontextmanager
async def serving(two: Two) -> AsyncIterator[int]:
    server = grpc.aio.server()
    recommend = grpc.unary_unary_rpc_method_handler(
        two.recommend, pb.RecommendBatchRequest.FromString, pb.RecommendBatchResponse.SerializeToString
    )
    service, method = METHOD[1:].split("/")
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: recommend})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0)


async def test_calls_take_turns_on_several_connections() -> None:
    two = Two()
    async with serving(two) as port:
        face = GrpcFace("127.0.0.1", port, items=2)
        faults = [(await face.ask("u1")).fault for _ in range(2 * CONNECTIONS)]
        await face.close()
    assert faults == [""] * 2 * CONNECTIONS
    assert len(set(two.peers)) == CONNECTIONS


async def test_a_short_answer_and_an_absent_server_are_faults() -> None:
    two = Two()
    async with serving(two) as port:
        face = GrpcFace("127.0.0.1", port, items=3)
        assert (await face.ask("u1")).fault
        await face.close()
    gone = GrpcFace("127.0.0.1", port, items=2)
    assert (await gone.ask("u1")).fault == "status UNAVAILABLE"
    await gone.close()
