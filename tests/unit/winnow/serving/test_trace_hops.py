"""One request over HTTP and gRPC: the span of a call at its caller, and below it the one at the called."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.gateway.build import face
from services.gateway.settings import Settings
from tests.gateways import Inner, gateway_over
from tests.spans import keeping
from tests.wirings import over_grpc
from winnow.errors import NotFound, Unavailable
from winnow.requests import RecommendRequest
from winnow.serving.connect import connect
from winnow.serving.serve import serve_grpc
from winnow.tracing import Kind, TraceContext, arrive, headers
from winnow.types import Person
from winnow.v1 import gateway_pb2, gateway_pb2_grpc
from winnow.wire import gateway as wire

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"
USERS = "winnow.v1.FeatureService/Users"


async def test_a_call_is_a_span_at_both_ends_and_the_trace_goes_on_through_it() -> None:
    async with over_grpc("feature", Inner()) as client:
        with keeping() as keeper:
            with arrive("GET /v1/trending", GIVEN, face=True):
                await client.users([Person("u")])
            await client.users([Person("u")])
    root, call, served = keeper.spans
    assert [one.name for one in (call, served)] == [USERS, USERS]
    assert [one.kind for one in (call, served)] == [Kind.CLIENT, Kind.SERVER]
    assert call.parent == root.context
    assert served.parent == TraceContext(TRACE, call.context.span_id, True, remote=True)
    assert served.attributes["rpc.response.status_code"] == "OK"
    assert [one.error for one in keeper.spans] == ["", "", ""]


async def test_a_failed_call_says_how_and_what_the_caller_did_wrong_is_no_failure_of_the_server() -> None:
    inner = Inner()
    async with over_grpc("feature", inner) as client:
        for trouble, expected in ((Unavailable("away"), "UNAVAILABLE"), (NotFound("no item 'x'"), "")):
            inner.trouble["feature"] = trouble
            with (
                keeping() as keeper,
                pytest.raises(type(trouble)),
                arrive("GET /v1/trending", GIVEN, face=True),
            ):
                await client.users([Person("u")])
            assert keeper.spans[2].error == expected
            assert keeper.spans[1].error in ("UNAVAILABLE", "NOT_FOUND")
            assert "no item" not in repr(keeper.spans)


async def test_a_call_that_its_stage_gives_up_is_cancelled() -> None:
    inner = Inner()
    inner.trouble["feature"] = 5.0
    async with over_grpc("feature", inner) as client:
        with keeping() as keeper, arrive("GET /v1/trending", GIVEN, face=True), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.users([Person("u")])
    assert keeper.spans[1].error == "CANCELLED"


async def test_off_the_trace_of_a_caller_still_reaches_the_called() -> None:
    class Hearing(Inner):
        heard: tuple[tuple[str, str], ...] = ()

        async def users(self, people):  # type: ignore[no-untyped-def]
            self.heard = headers()
            return await super().users(people)

    inner = Hearing()
    async with over_grpc("feature", inner) as client:
        arrive("GET /v1/trending", GIVEN, "a=1", face=True)
        await client.users([Person("u")])
    assert inner.heard == (("traceparent", GIVEN), ("tracestate", "a=1"))


async def test_the_rest_face_begins_a_trace_by_the_requests_id_or_goes_on_with_a_valid_one() -> None:
    app = face(Settings(), gateway_over(Inner()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://winnow") as http:
        with keeping() as keeper:
            answer = await http.get("/v1/recommendations", params={"user_id": "u"})
            await http.get("/v1/trending", headers={"traceparent": GIVEN})
            await http.get("/v1/trending", headers=[("traceparent", GIVEN), ("traceparent", GIVEN)])
            await http.request("BREW", "/coffee")
        faces = [one for one in keeper.spans if one.kind is Kind.SERVER]
        assert faces[0].context.trace_id == answer.headers["x-request-id"] == answer.json()["request_id"]
        assert [one.parent is not None for one in faces] == [False, True, False, False]
        names = ["GET /v1/recommendations", "GET /v1/trending", "GET /v1/trending", "_OTHER other"]
        assert [one.name for one in faces] == names
        stages = {one.name for one in keeper.spans if one.parent == faces[0].context}
        assert stages >= {"feature", "retrieval", "ranking", "arrange"}
        with keeping(ratio=0.0) as keeper:
            await http.get("/v1/recommendations", params={"user_id": "u"})
        assert keeper.spans == []


async def test_the_grpc_face_does_the_same() -> None:
    server = await serve_grpc([wire.register(gateway_over(Inner()))], "127.0.0.1:0", grace_s=0.1)
    request = gateway_pb2.RecommendBatchRequest(requests=[wire.recommend_to(RecommendRequest(Person("u"), n=3))])
    with keeping() as keeper:
        async with connect(server.address) as channel:
            stub = gateway_pb2_grpc.RecommenderServiceStub(channel)
            await stub.Recommend(request, metadata=(("traceparent", GIVEN),))
            await stub.Recommend(request, metadata=(("winnow-request-id", "jane@example.org"),))
    await server.stop()
    faces = [one for one in keeper.spans if one.kind is Kind.SERVER]
    assert [one.name for one in faces] == ["winnow.v1.RecommenderService/Recommend"] * 2
    assert faces[0].parent == TraceContext(TRACE, PARENT, True, remote=True)
    assert faces[1].parent is None
    assert "jane" not in repr(keeper.spans)
