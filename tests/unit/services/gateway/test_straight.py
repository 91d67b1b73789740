"""The short way of the common request answers as the application does, and leaves all that is unusual to it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.gateway.build import face
from services.gateway.settings import Settings
from services.gateway.straight import request_of
from tests.gateways import Inner, gateway_over
from winnow.errors import DiskFull, Unavailable

PLAIN, OTHER = "application/json", "application/json; charset=utf-8"
APP: FastAPI = face(Settings(max_body_bytes=2_000), gateway_over(Inner()))
BODIES = (
    b'{"user_id": "u"}',
    b'{"session_id": "s", "n": 3, "offset": 2, "explain": false, "exclude": ["i10"]}',
    b'{"user_id": "u", "context": {"at": "2026-01-31T12:00:00Z", "country": "GB"}, "objectives": {"click": 1}}',
    b'{"user_id": "u", "filter": {"all": [{"field": "categories", "op": "in", "values": ["even"]}]}}',
    b'{"user_id": "u", "diversity": 0.5}',
    b'{"user_id": "u", "diversity": 1, "query": "Item 3"}',
    b'{"user_id": "u", "diversity": null}',
    b'{"user_id": "u", "diversity": -0.1}',
    b'{"user_id": "u", "diversity": true}',
    b'{"user_id": "u", "user_id": "v"}',
    b'{"user_id": "u", "objectives": {"click": 123456789012345678901234567890}}',
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"user_id": "u", "n": NaN}',
    b'{"user_id": "u", "n": "3"}',
    b'{"user_id": "u", "n": 0}',
    b'{"user_id": "u", "other": 1}',
    b'{"user_id": " u"}',
    b'{"user_id": "\\ud800"}',
    b'{"user_id": "\xff"}',
    b'{"user_id": "u", "token": "no token"}',
    b'{"user_id": "u", "filter": {"field": "price", "op": "in"}}',
    b'{"user_id": "u", "filter": ' + b'{"not": ' * 60 + b"null" + b"}" * 61,
    b"[" * 900,
    b'{"user_id": "' + b"u" * 2_100 + b'"}',
    '{"user_id": "ü"}'.encode("utf-16"),
)


async def ask(body: bytes, content_type: str, app: FastAPI = APP, **headers: str) -> tuple[int, str, dict[str, Any]]:
    """Status, type and JSON without what differs between any two answers."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://winnow") as client:
        headers = {"content-type": content_type, **headers}
        answer = await client.post("/v1/recommendations", content=body, headers=headers)
    told = answer.json()
    own = told.pop("request_id")
    assert answer.headers.get("x-request-id", own) == own
    told.pop("took_ms", None)
    return answer.status_code, answer.headers["content-type"], told


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_both_ways_say_the_same_of_a_body(body: bytes) -> None:
    assert await ask(body, PLAIN) == await ask(body, OTHER)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "user_id",
                "session_id",
                "n",
                "offset",
                "explain",
                "query",
                "exclude",
                "objectives",
                "context",
                "diversity",
            ]
        ),
        st.one_of(st.text(max_size=4), st.integers(-2, 200), st.booleans(), st.none(), st.lists(st.text(max_size=2)))
        | st.dictionaries(st.sampled_from(["click", "at", "country"]), st.integers(0, 2) | st.text(max_size=2)),
        max_size=4,
    )
)
def test_whatever_is_in_a_body_both_ways_say_the_same(body: dict[str, Any]) -> None:
    async def both() -> None:
        text = orjson.dumps(body | {"user_id": "u"})
        assert await ask(text, PLAIN) == await ask(text, OTHER)

    asyncio.run(both())


def test_the_common_request_is_taken_and_one_whose_client_left_is_not() -> None:
    parts = [{"type": "http.request", "body": part, "more_body": True} for part in (b'{"user_id"', b': "u"}')]
    assert request_of(parts) is not None, "else this file compares one way with itself"
    assert request_of([parts[0], {"type": "http.disconnect"}]) is None


async def test_the_common_request_does_not_meet_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.gateway.rest.answer_json", None)  # what the framework's route answers by
    assert (await ask(b'{"user_id": "u"}', PLAIN))[0] == 200
    assert (await ask(b'{"user_id": "u"}', OTHER))[0] == 500


@pytest.mark.parametrize("trouble", [Unavailable("gone"), DiskFull("full"), ZeroDivisionError("a bug")])
async def test_errors_leave_as_the_same_problems(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = gateway_over(Inner())

    async def fails(requests: object) -> object:
        raise trouble

    monkeypatch.setattr(gateway, "recommend", fails)
    app = face(Settings(), gateway)
    plain, other = [await ask(b'{"user_id": "u"}', kind, app) for kind in (PLAIN, OTHER)]
    assert plain == other
    assert plain[0] >= 500


async def test_it_is_counted_under_its_route() -> None:
    labels = {"route": "/v1/recommendations", "status": "200"}
    before = REGISTRY.get_sample_value("winnow_http_requests_total", labels) or 0.0
    await ask(b'{"user_id": "u"}', PLAIN)
    assert REGISTRY.get_sample_value("winnow_http_requests_total", labels) == before + 1
