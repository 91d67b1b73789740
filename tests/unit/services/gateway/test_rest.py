"""The REST face: what it takes, what it answers, and that every error is a problem that names its field."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.gateway.build import face
from services.gateway.settings import Settings
from tests.gateways import Inner, gateway_over
from winnow.errors import DiskFull, ResourceExhausted, Unavailable

LIMIT = 30_000
EVENT = {"event_id": "e", "type": "click", "item_id": "i1", "user_id": "u"}


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
async def http(inner: Inner) -> AsyncIterator[httpx.AsyncClient]:
    app = face(Settings(max_body_bytes=LIMIT, body_s=0.5), gateway_over(inner))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://winnow") as client:
        yield client


def problem(answer: httpx.Response, status: int, field: str | None = None) -> dict[str, Any]:
    """The problem in `answer`, checked for shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    assert body.get("field") == field
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


async def test_post_and_get_give_the_same_items(http: httpx.AsyncClient) -> None:
    long = (await http.post("/v1/recommendations", json={"user_id": "u", "n": 3})).json()
    short = (await http.get("/v1/recommendations", params={"user_id": "u", "n": 3})).json()
    assert long["items"] == short["items"]
    assert [line["item_id"] for line in long["items"]] == ["i10", "i9", "i8"]
    assert long["items"][0]["item"] == {
        "title": "Item 10",
        "categories": ["even"],
        "price": 10,
        "currency": "",
        "image_url": "",
    }


async def test_a_batch_answers_in_order(http: httpx.AsyncClient) -> None:
    body = {"requests": [{"user_id": "a", "n": 1}, {"session_id": "s", "n": 2}]}
    answers = (await http.post("/v1/recommendations:batch", json=body)).json()["answers"]
    assert [len(answer["items"]) for answer in answers] == [1, 2]


async def test_similar_trending_and_item_facts(http: httpx.AsyncClient) -> None:
    assert len((await http.get("/v1/items/i1/similar", params={"n": 2})).json()["items"]) == 2
    assert len((await http.post("/v1/similar", json={"item_ids": ["i1", "i2"], "n": 4})).json()["items"]) == 4
    assert len((await http.get("/v1/trending", params={"n": 3, "user_id": "u"})).json()["items"]) == 3
    assert (await http.get("/v1/items/i7")).json()["title"] == "Item 7"
    problem(await http.get("/v1/items/unknown"), 404, "item_id")
    problem(await http.get("/v1/items/nothing/similar"), 404, "item_ids[0]")


async def test_events_come_one_or_many(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/events", json=EVENT)).json()["accepted"] == 1
    assert (await http.post("/v1/events", json={"events": [EVENT, EVENT | {"event_id": "f"}]})).json()["accepted"] == 2


async def test_a_token_of_events_is_answered_in_every_form_of_a_request(http: httpx.AsyncClient, inner: Inner) -> None:
    token = (await http.post("/v1/events", json=EVENT)).json()["token"]
    ask = {"user_id": "u", "n": 1, "token": token}
    inner.watermark = inner.written
    answers = [
        (await http.post("/v1/recommendations", json=ask)).json(),
        (await http.get("/v1/recommendations", params=ask)).json(),
        *(await http.post("/v1/recommendations:batch", json={"requests": [ask]})).json()["answers"],
    ]
    assert [answer["token_included"] for answer in answers] == [True] * 3
    inner.watermark -= 1
    assert (await http.post("/v1/recommendations", json=ask)).json()["token_included"] is False
    assert "token_included" not in (await http.post("/v1/recommendations", json={"user_id": "u"})).json()


async def test_what_is_no_token_is_refused_by_name(http: httpx.AsyncClient) -> None:
    problem(await http.post("/v1/recommendations", json={"user_id": "u", "token": "7"}), 422, "token")
    problem(await http.get("/v1/recommendations", params={"user_id": "u", "token": "x" * 15}), 422, "token")
    batch = {"requests": [{"user_id": "u"}, {"user_id": "u", "token": "no"}]}
    problem(await http.post("/v1/recommendations:batch", json=batch), 422, "requests[1].token")


async def test_bytes_that_are_no_text_are_nobodys_id(http: httpx.AsyncClient) -> None:
    """Or all who are misspelt alike would be one person."""
    problem(await http.get("/v1/recommendations?user_id=%ff"), 422, "user_id")
    problem(await http.get("/v1/items/%ff/similar"), 422, "item_ids[0]")
    assert (await http.get("/v1/recommendations?user_id=%E7%94%A8")).status_code == 200


async def test_every_answer_says_how_new_it_is(http: httpx.AsyncClient, inner: Inner) -> None:
    told = [
        (await http.post("/v1/recommendations", json={"user_id": "u"})).json(),
        (await http.get("/v1/trending", params={"user_id": "u"})).json(),
        (await http.get("/v1/trending")).json(),
        (await http.get("/v1/items/i1/similar")).json(),
    ]
    assert [answer["watermarks"]["events"] for answer in told] == [7, 7, 0, 0], "0: nobody's events are in it"
    assert {answer["watermarks"]["catalogue"] for answer in told} == {20}
    assert told[0]["watermarks"]["features"] == 7
    assert told[0]["watermarks"]["bundles"] == {"retrieval": "r", "ranking": "k"}


async def test_a_full_disk_is_a_503_that_says_so(http: httpx.AsyncClient, inner: Inner) -> None:
    inner.trouble["feature"] = DiskFull("the disk is full")
    refused = problem(await http.post("/v1/events", json=EVENT), 503)
    assert refused["type"] == "urn:winnow:problem:disk-full"
    inner.trouble["feature"] = ResourceExhausted("busy")
    answer = await http.post("/v1/recommendations", json={"user_id": "u"})
    assert (answer.status_code, answer.json()["skipped"]) == (200, ["feature"])


async def test_items_come_one_or_many(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/items/new", json={"title": "New", "price": 3})).json()["accepted"] == 1
    assert (await http.post("/v1/items:batch", json={"items": [{"item_id": "a"}, {"item_id": "b"}]})).json()[
        "accepted"
    ] == 2


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/recommendations", {}, "user_id"),
        ("/v1/recommendations", {"user_id": "u", "n": 0}, "n"),
        ("/v1/recommendations", {"user_id": "u", "n": 101}, "n"),
        ("/v1/recommendations", {"user_id": "u", "colour": 1}, "colour"),
        ("/v1/recommendations", {"user_id": "u", "context": {"at": "yesterday"}}, "context.at"),
        ("/v1/recommendations", {"user_id": "u", "context": {"at": "2026-01-01T00:00:00"}}, "context.at"),
        ("/v1/recommendations", {"user_id": "u" * 300}, "user_id"),
        ("/v1/recommendations", {"user_id": "u", "objectives": {"click": 0}}, "objectives"),
        ("/v1/recommendations", {"user_id": "u", "diversity": 1.1}, "diversity"),
        ("/v1/recommendations", {"user_id": "u", "diversity": "0.5"}, "diversity"),
        (
            "/v1/recommendations",
            {"user_id": "u", "filter": {"field": "colour", "op": "in", "values": ["a"]}},
            "filter.field",
        ),
        ("/v1/recommendations", {"user_id": "u", "filter": {"field": "price", "op": "in"}}, "filter.price.op"),
        ("/v1/recommendations", {"user_id": "u", "filter": {"field": "price", "op": "lt"}}, "filter.price.number"),
        (
            "/v1/recommendations",
            {"user_id": "u", "filter": {"field": "price", "op": "lt", "number": 3, "values": ["20"]}},
            "filter.price.values",
        ),
        (
            "/v1/recommendations",
            {"user_id": "u", "filter": {"field": "brand", "op": "in", "values": ["a"], "flag": True}},
            "filter.brand.flag",
        ),
        ("/v1/recommendations", {"user_id": "u", "filter": {"all": [{"op": "in"}]}}, "filter.all[0].field"),
        ("/v1/recommendations:batch", {"requests": [{"user_id": "u"}, {}]}, "requests[1].user_id"),
        ("/v1/recommendations:batch", {"requests": []}, "requests"),
        ("/v1/recommendations", {"user_id": "u", "n": "10"}, "n"),
        ("/v1/recommendations", {"user_id": "u", "n": True}, "n"),
        ("/v1/recommendations", {"user_id": "u", "explain": 0}, "explain"),
        ("/v1/recommendations", {"user_id": "u", "exclude": ["i1", ""]}, "exclude[1]"),
        ("/v1/events", EVENT | {"value": "3"}, "value"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "available": 0}]}, "items[0].available"),
        ("/v1/items:batch", {"items": [{"item_id": ""}]}, "items[0].item_id"),
        ("/v1/events", EVENT | {"type": "glance"}, "type"),
        ("/v1/events", EVENT | {"type": "rating"}, "value"),
        ("/v1/events", {"events": [EVENT, EVENT | {"quantity": 0}]}, "events[1].quantity"),
        ("/v1/events", {"events": [EVENT, EVENT | {"value": "dear"}]}, "events[1].value"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "price": -1}]}, "items[0].price"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "image_vector": [0.1] * 2_049}]}, "items[0].image_vector"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "image_vector": [0.1, "2"]}]}, "items[0].image_vector[1]"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "image_vector": [1e30]}]}, "items[0].image_vector[0]"),
        ("/v1/items:batch", {"items": [{"item_id": "a", "image_vector": [1e-30]}]}, "items[0].image_vector"),
        ("/v1/similar", {"item_ids": []}, "item_ids"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, path: str, body: dict[str, Any], field: str) -> None:
    problem(await http.post(path, json=body), 422, field)


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/recommendations", {}, "user_id"),
        ("/v1/recommendations", {"user_id": "u", "n": "many"}, "n"),
        ("/v1/recommendations", {"user_id": "u", "colour": "red"}, "colour"),
        ("/v1/trending", {"user": "u"}, "user"),
        ("/v1/items/i1/similar", {"exclude": ["i2", ""]}, "exclude[1]"),
    ],
)
async def test_what_is_wrong_in_a_link_is_named(
    http: httpx.AsyncClient, path: str, query: dict[str, Any], field: str
) -> None:
    problem(await http.get(path, params=query), 422, field)


async def test_a_filter_nested_too_deep_is_refused(http: httpx.AsyncClient) -> None:
    tree: dict[str, Any] = {"field": "available", "op": "is"}
    for _ in range(30):
        tree = {"not": tree}
    problem(await http.post("/v1/recommendations", json={"user_id": "u", "filter": tree}), 422, "filter")
    for _ in range(400):
        tree = {"all": [tree]}
    problem(await http.post("/v1/recommendations", json={"user_id": "u", "filter": tree}), 422, "filter")
    batch = {"requests": [{"user_id": "u"}, {"user_id": "u", "filter": tree}]}
    problem(await http.post("/v1/recommendations:batch", json=batch), 422, "requests[1].filter")
    deepest = b'{"user_id": "u", "filter": ' + b'{"not":' * 3_000 + b"{}" + b"}" * 3_000 + b"}"
    headers = {"content-type": "application/json"}
    answer = await http.post("/v1/recommendations", content=deepest, headers=headers)
    assert "at most 8 deep" in problem(answer, 422, "filter")["detail"]


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_that_is_not_declared_as_json_is_told_the_header(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await http.post("/v1/events", content=b'{"event_id": "e"}', headers=headers)
    assert "content-type: application/json" in problem(answer, 415, "content-type")["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/items/a%2Fb"),
        ("PUT", "/v1/items/a/b"),
        ("PUT", "/v1/items/a/similar"),
        ("PUT", "/v1/items/a%2Fsimilar"),
        ("PUT", "/v1/items/similar%2F"),
        ("GET", "/v1/items/a/b"),
        ("GET", "/v1/items/a%2Fb/similar"),
    ],
)
async def test_an_id_with_a_slash_is_shown_the_way(http: httpx.AsyncClient, method: str, path: str) -> None:
    wrong = problem(await http.request(method, path, json={"title": "T"}), 400, "item_id")
    assert wrong["type"] == "urn:winnow:problem:slash-in-item-id"
    assert "POST /v1/items:batch" in wrong["detail"]


async def test_an_item_may_be_called_similar(http: httpx.AsyncClient) -> None:
    assert (await http.put("/v1/items/similar", json={"title": "T"})).json()["accepted"] == 1
    body = {"items": [{"item_id": "a/similar"}, {"item_id": "a/b"}]}
    assert (await http.post("/v1/items:batch", json=body)).json()["accepted"] == 2


async def test_the_document_says_that_an_id_in_a_path_has_no_slash(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    described = [
        operation["parameters"][0]
        for path, methods in document["paths"].items()
        if "{item_id}" in path
        for operation in methods.values()
    ]
    assert len(described) == 3
    for parameter in described:
        assert parameter["schema"]["pattern"] == "^[^/]+$"
        assert "POST /v1/items:batch" in parameter["description"]


async def test_a_body_that_is_no_json_is_malformed(http: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    problem(await http.post("/v1/events", content=b'{"event_id', headers=headers), 400)
    problem(await http.post("/v1/events", content=b"\xff\xfe", headers=headers), 400)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(http: httpx.AsyncClient, chunked: bool) -> None:
    whole = b'{"events": [' + b" " * LIMIT + b"]}"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 1_000):
            yield whole[start : start + 1_000]

    content: Any = pieces() if chunked else whole
    answer = await http.post("/v1/events", content=content, headers={"content-type": "application/json"})
    assert problem(answer, 413)["type"] == "urn:winnow:problem:payload-too-large"


async def test_a_body_that_does_not_come_is_not_waited_for(http: httpx.AsyncClient) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)
        yield b"}"

    problem(await http.post("/v1/events", content=dribble(), headers={"content-type": "application/json"}), 408)


async def test_an_unknown_route_and_a_wrong_method_are_problems_too(http: httpx.AsyncClient) -> None:
    assert problem(await http.get("/v1/nothing"), 404)["type"] == "urn:winnow:problem:not-found"
    answer = await http.delete("/v1/items/i1")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, PUT"
    answer = await http.delete("/v1/items/i1/similar")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/v1/recommendations/", "/healthz/"])
async def test_a_slash_too_many_is_an_unknown_route_and_no_redirect(http: httpx.AsyncClient, path: str) -> None:
    problem(await http.get(path, params={"user_id": "u"}), 404)


async def test_a_write_that_fails_says_when_to_come_back(http: httpx.AsyncClient, inner: Inner) -> None:
    inner.trouble["feature"] = Unavailable("log is away")
    answer = await http.post("/v1/events", json=EVENT)
    assert problem(answer, 503)["detail"] == "log is away"
    assert answer.headers["retry-after"] == "1"


async def test_a_bug_is_told_without_its_detail(http: httpx.AsyncClient, inner: Inner) -> None:
    inner.trouble["ranking"] = ValueError("secret")
    body = problem_of_a_bug(await http.get("/v1/recommendations", params={"user_id": "u"}))
    assert "secret" not in str(body)


def problem_of_a_bug(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


async def test_readiness_names_what_is_missing(http: httpx.AsyncClient, inner: Inner) -> None:
    inner.is_ready = False
    assert "retrieval: bundle" in problem(await http.get("/readyz"), 503)["detail"]
    inner.is_ready = True
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_metrics_count_stages_skips_and_requests(http: httpx.AsyncClient, inner: Inner) -> None:
    inner.trouble["explanation"] = Unavailable("down")
    await http.get("/v1/recommendations", params={"user_id": "u"})
    page = (await http.get("/metrics")).text
    for line in (
        'winnow_stage_skipped_total{stage="explanation"}',
        'winnow_stage_seconds_count{outcome="ok",stage="retrieval"}',
        'winnow_http_requests_total{route="/v1/recommendations",status="200"}',
    ):
        assert line in page


async def test_every_route_documents_its_problems(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "Problem" in document["components"]["schemas"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {"400", "404", "405", "413", "422", "429", "503"} <= operation["responses"].keys()
            assert operation["summary"]
            assert operation["description"]
