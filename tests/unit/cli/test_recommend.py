"""What `winnow recommend` brings to a gateway that asks who it is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from cli.recommend import over_rest
from winnow.errors import Unauthenticated
from winnow.requests import RecommendRequest
from winnow.types import Person

KEY = "winnow_me_" + "0" * 64
REFUSED = {"type": "urn:winnow:problem:unauthenticated", "title": "who are you", "detail": "give a token or an API key"}


@pytest.mark.parametrize("diversity", [None, 0.0, 0.3])
def test_how_varied_is_asked_only_where_it_is_said(monkeypatch: pytest.MonkeyPatch, diversity: float | None) -> None:
    def post(address: str, *, json: Any, **_: Any) -> httpx.Response:
        return httpx.Response(200, json={"items": [], "asked": json.get("diversity", "default")})

    monkeypatch.setattr(httpx, "post", post)
    answer = over_rest("http://gateway", RecommendRequest(Person("u1"), diversity=diversity))
    assert answer["asked"] == ("default" if diversity is None else diversity)


def test_a_key_is_brought_and_without_one_the_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def post(address: str, *, json: Any, headers: dict[str, str], **_: Any) -> httpx.Response:
        if headers.get("x-api-key") != KEY:
            return httpx.Response(401, json=REFUSED)
        return httpx.Response(200, json={"items": [], "asked": json["user_id"]})

    monkeypatch.setattr(httpx, "post", post)
    request = RecommendRequest(Person("u1"), n=3)
    assert over_rest("http://gateway", request, api_key=KEY)["asked"] == "u1"
    with pytest.raises(Unauthenticated, match="give a token or an API key") as refused:
        over_rest("http://gateway", request)
    assert KEY not in str(refused.value)
