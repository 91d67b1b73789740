"""Who may do what: every route and every RPC, asked by nobody, by the wrong and by the right caller; and the table in the
docs says the same."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from fastapi import FastAPI
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from services.gateway.access import ACCESS
from services.gateway.build import face
from services.gateway.gate import Gate
from services.gateway.rates import InMemory, Rate
from services.gateway.settings import Settings
from tests.gateways import Inner, gateway_over
from tests.guards import Faces, bearer, faces, guard, new_key
from tests.issuers import token
from winnow.serving.guarded_calls import MAX_STRANGERS
from winnow.serving.principal import NOBODY, SCOPES, Principal, principal
from winnow.types import Event
from winnow.v1 import gateway_pb2 as pb
from winnow.v1 import types_pb2
from winnow.wire.types import event_to

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one gateway for all of them

EVENT = {"event_id": "e", "type": "click", "item_id": "i1", "user_id": "u"}
BODIES: dict[str, Any] = {
    "POST /v1/recommendations": {"user_id": "u"},
    "POST /v1/recommendations:batch": {"requests": [{"user_id": "u"}]},
    "POST /v1/similar": {"item_ids": ["i1"]},
    "POST /v1/events": EVENT,
    "POST /v1/items:batch": {"items": [{"item_id": "i1"}]},
    "PUT /v1/items/{item_id}": {"title": "t"},
}
PARAMETERS = {"/v1/recommendations": {"user_id": "u"}}
PERSON = types_pb2.Person(user_id="u")
CLICK = event_to(Event(event_id="e", type="click", item_id="i1", occurred_at=datetime.now(UTC), user_id="u"))
MESSAGES: dict[str, Any] = {
    "Recommend": pb.RecommendBatchRequest(requests=[pb.RecommendRequest(person=PERSON)]),
    "Similar": pb.SimilarRequest(item_ids=["i1"]),
    "Trending": pb.TrendingRequest(),
    "Record": pb.RecordEventsRequest(events=[CLICK]),
    "PutItems": pb.PutCatalogueItemsRequest(items=[types_pb2.Item(item_id="i1", available=True)]),
    "Ready": types_pb2.ReadyRequest(),
    "Check": health_pb2.HealthCheckRequest(),
    "Watch": health_pb2.HealthCheckRequest(),
    "ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services="*"),
}
PAGE = Path("docs/security.md").read_text(encoding="utf-8")
ROUTES = [what for what in ACCESS if not what.startswith("/")]
RPCS = [what for what in ACCESS if what.startswith("/")]
CALLERS = ["none", "expired", "wrong audience", "wrong scope", "right", "right key", "wrong key scope"]
ALLOWED, UNKNOWN, DENIED = "allowed", "unknown", "denied"


def expected(what: str, caller: str) -> str:
    if ACCESS[what] in ("open", "probe") or caller in ("right", "right key"):
        return ALLOWED
    return DENIED if "scope" in caller else UNKNOWN


def credential(what: str, caller: str) -> dict[str, str]:
    """What this caller sends: all scopes but the one that is needed, or that one alone."""
    need = ACCESS[what]
    others = " ".join(scope for scope in SCOPES if scope != need)
    right = need if need in SCOPES else ""
    match caller:
        case "none":
            return {}
        case "expired":
            return bearer(token(scope=right, exp=int(time.time()) - 60))
        case "wrong audience":
            return bearer(token(scope=right, aud="another"))
        case "wrong scope":
            return bearer(token(scope=others))
        case "right":
            return bearer(token(scope=right))
        case "right key":
            return {"x-api-key": KEYS.get(right, KEYS["recommend"])}
        case _:
            return {"x-api-key": KEYS["privacy"]}


def made_keys() -> tuple[dict[str, str], str]:
    """A key for every scope, and the file of them all."""
    made = {scope: new_key((scope,), id=scope.replace(":", "-")) for scope in SCOPES}
    rows = ",".join(re.sub(r'^\{"keys":\[|\]\}$', "", file) for _, file in made.values())
    return {scope: key for scope, (key, _) in made.items()}, f'{{"keys":[{rows}]}}'


KEYS, FILE = made_keys()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[Faces]:
    async with faces(guard(FILE)) as both:
        yield both


@pytest.fixture
def guarded(started: Faces) -> Faces:
    started.inner.calls.clear()
    return started


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("what", ROUTES)
async def test_a_route_serves_whom_the_table_says(guarded: Faces, what: str, caller: str) -> None:
    method, path = what.split(" ")
    url = path.replace("{item_id}", "i1").replace("{name}", "swagger-ui.css")
    answer = await guarded.http.request(
        method, url, json=BODIES.get(what), params=PARAMETERS.get(path, {}), headers=credential(what, caller)
    )
    told = {200: ALLOWED, 401: UNKNOWN, 403: DENIED}[answer.status_code]
    assert told == expected(what, caller)
    if told is not ALLOWED:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith('Bearer realm="winnow"')
        assert guarded.inner.calls == [], "nothing was asked of anybody"
    if told is DENIED:
        assert answer.json()["detail"] == f"needs the scope {ACCESS[what]}"


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("what", RPCS)
async def test_an_rpc_serves_whom_the_table_says(guarded: Faces, what: str, caller: str) -> None:
    message = MESSAGES[what.rpartition("/")[2]]
    expect = expected(what, caller)
    if expect == ALLOWED:
        await called(guarded.channel, what, message, credential(what, caller))
        return
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await called(guarded.channel, what, message, credential(what, caller))
    assert refused.value.code().name == {UNKNOWN: "UNAUTHENTICATED", DENIED: "PERMISSION_DENIED"}[expect]
    assert expect == UNKNOWN or refused.value.details() == f"needs the scope {ACCESS[what]}"
    assert guarded.inner.calls == [], "nothing was asked of anybody"


async def called(channel: grpc.aio.Channel, what: str, message: Any, headers: dict[str, str]) -> None:
    """Call by the method's name alone. A stream that is refused while gRPC's client writes its first message, one in a
    thousand, fails there in the client's own words, not in the server's: it is asked anew."""
    for _ in range(5):
        try:
            await called_once(channel, what, message, headers)
        except grpc.aio.AioRpcError as broken:
            if broken.details() != "Internal error from Core":
                raise
        else:
            return
    raise AssertionError("gRPC's client fails time and again")


async def called_once(channel: grpc.aio.Channel, what: str, message: Any, headers: dict[str, str]) -> None:
    """Of a stream the first answer is enough."""
    metadata, raw = tuple(headers.items()), message.SerializeToString()
    if what.endswith("Watch"):
        stream = channel.unary_stream(what)(raw, metadata=metadata, timeout=10)
    elif what.endswith("Info"):
        stream = channel.stream_stream(what)(iter([raw]), metadata=metadata, timeout=10)
    else:
        await channel.unary_unary(what)(raw, metadata=metadata, timeout=10)
        return
    async for _ in stream:
        stream.cancel()
        return


async def test_whoever_serves_a_request_knows_who_asks(guarded: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both faces, and of one request nothing stays for the next."""
    saw: list[Principal] = []

    async def meet(service: str) -> None:
        saw.append(principal.get())

    monkeypatch.setattr(guarded.inner, "_meet", meet)
    callers = [bearer(token(sub="ann")), {"x-api-key": KEYS["recommend"]}]
    for headers in callers:
        await guarded.http.get("/v1/trending", headers=headers)
        await called(guarded.channel, "/winnow.v1.RecommenderService/Trending", MESSAGES["Trending"], headers)
    assert [(one.subject, one.kind) for one in saw] == [("ann", "token")] * 2 + [("recommend", "key")] * 2
    saw.clear()
    await guarded.http.get("/readyz")
    assert all(one == NOBODY for one in saw)


async def test_following_never_ends_by_itself() -> None:
    """A loop that returned would end the process, whatever there is to follow."""
    for gate in (guard(), guard(FILE), Gate(None, InMemory(), None, Rate(1, 1))):
        following = asyncio.create_task(gate.follow())
        await asyncio.sleep(0.02)
        assert not following.done()
        following.cancel()


# ------------------------------------------------------------------------------------- the table is whole


async def test_every_route_has_a_row_and_every_row_a_route() -> None:
    app = face(Settings(), gateway_over(Inner()))
    served = {f"{method} {route.path}" for route in app.routes for method in route.methods - {"HEAD"}}
    assert served == set(ROUTES)


async def test_every_rpc_has_a_row_and_every_row_an_rpc(guarded: Faces) -> None:
    """As the running server tells it: what is registered, not what a file says."""
    ask = guarded.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    metadata = tuple(bearer(token()).items())

    async def told(**question: str) -> Any:
        raw = reflection_pb2.ServerReflectionRequest(**question).SerializeToString()
        (answer,) = [answer async for answer in ask(iter([raw]), metadata=metadata, timeout=10)]
        return reflection_pb2.ServerReflectionResponse.FromString(answer)

    served = set()
    for service in (await told(list_services="*")).list_services_response.service:
        found = await told(file_containing_symbol=service.name)
        for raw in found.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(raw)
            served |= {f"/{file.package}.{one.name}/{rpc.name}" for one in file.service for rpc in one.method}
    assert served == set(RPCS)


async def test_a_route_that_nobody_wrote_into_the_table_is_refused() -> None:
    """However it came: as a route of FastAPI, of Starlette, or as an application mounted below a path."""

    async def hello(request: Any = None) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async with faces(guard(FILE)) as both:
        app: FastAPI = both.app
        app.get("/v1/new")(hello)
        app.router.routes.append(Route("/v1/plain", hello))
        app.router.routes.append(Mount("/v1/below", routes=[Route("/it", hello)]))
        for path in ("/v1/new", "/v1/plain", "/v1/below/it"):
            answer = await both.http.get(path, headers=bearer(token()))
            assert (answer.status_code, "table of access" in answer.json()["detail"]) == (403, True), path
            assert (await both.http.get(path)).status_code == 401


async def test_an_rpc_that_nobody_wrote_into_the_table_is_refused() -> None:
    missing = "/winnow.v1.RecommenderService/Trending"
    async with faces(guard(FILE, access={what: need for what, need in ACCESS.items() if what != missing})) as both:
        with pytest.raises(grpc.aio.AioRpcError, match="table of access") as refused:
            await called(both.channel, missing, MESSAGES["Trending"], bearer(token()))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_what_does_not_exist_is_told_as_ever(guarded: Faces) -> None:
    assert (await guarded.http.get("/v1/nothing")).status_code == 404
    assert (await guarded.http.delete("/v1/events")).status_code == 405
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await called(guarded.channel, "/winnow.v1.RecommenderService/Nothing", MESSAGES["Trending"], {})
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_docs_have_the_same_table() -> None:
    rows = re.findall(r"^\| `([^`|]+)` \| `?([a-z:]+)`? \|$", PAGE, re.M)
    assert dict(rows) == dict(ACCESS)
    assert len(rows) == len(ACCESS)


async def test_the_openapi_document_names_every_scope(guarded: Faces) -> None:
    document = (await guarded.http.get("/openapi.json")).json()
    said = {
        f"{method.upper()} {path}": [scheme for way in operation.get("security", []) for scheme in way.items()]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    needs = {what: [("bearer", [ACCESS[what]]), ("apiKey", [ACCESS[what]])] for what in said}
    assert said == {what: need if ACCESS[what] in SCOPES else [] for what, need in needs.items()}
    assert document["components"]["securitySchemes"].keys() == {"bearer", "apiKey"}


async def test_without_authentication_everybody_is_served_as_ever() -> None:
    async with faces(None) as both:
        for headers in ({}, bearer("nonsense")):
            assert (await both.http.post("/v1/events", json=EVENT, headers=headers)).status_code == 200
            await called(both.channel, RPCS[0], MESSAGES["Recommend"], headers)
        document = (await both.http.get("/openapi.json")).json()
        assert {} in document["paths"]["/v1/events"]["post"]["security"]


async def test_where_nobody_is_recognised_calls_that_are_counted_may_wait_as_ever() -> None:
    """Only probes, which nobody counts, are few."""
    counted = Gate(None, InMemory(), None, Rate(1e6, 10**6))
    async with faces(counted) as open_to_all:
        trending = "/winnow.v1.RecommenderService/Trending"
        waiting = [open_to_all.channel.stream_unary(trending)() for _ in range(MAX_STRANGERS + 20)]
        await asyncio.sleep(0.5)
        assert not any(one.done() for one in waiting)
        for one in waiting:
            one.cancel()


async def test_strangers_who_send_no_message_leave_room_for_those_we_know() -> None:
    async with faces(guard(FILE)) as guarded:
        check, trending = "/grpc.health.v1.Health/Check", "/winnow.v1.RecommenderService/Trending"
        silent = [guarded.channel.stream_unary(check)() for _ in range(MAX_STRANGERS + 20)]
        ended = await asyncio.wait_for(asyncio.gather(*silent, return_exceptions=True), 20)
        codes = Counter(one.code() for one in ended if isinstance(one, grpc.aio.AioRpcError))
        assert codes[grpc.StatusCode.RESOURCE_EXHAUSTED] == 20
        assert codes[grpc.StatusCode.DEADLINE_EXCEEDED] == MAX_STRANGERS
        waiting = [guarded.channel.stream_unary(check)() for _ in range(MAX_STRANGERS)]
        known = (("x-api-key", KEYS["recommend"]),)
        assert await guarded.channel.unary_unary(trending)(b"", metadata=known, timeout=5) is not None
        await asyncio.gather(*waiting, return_exceptions=True)
