"""Budgets of the gateway's settings, and what a call to a peer may take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.settings import Settings
from winnow.serving.settings import words_of
from winnow.types import MAX_USERS

STAGES = ("feature", "retrieval", "ranking", "explanation")
BUDGETS = st.floats(1.0, 100_000.0)


@given(st.fixed_dictionaries({f"{name}_budget_ms": BUDGETS for name in (*STAGES, "write")}), st.integers(1, MAX_USERS))
def test_no_call_is_given_up_before_its_budget_is_over(budgets: dict[str, float], requests: int) -> None:
    settings = Settings(**budgets)  # type: ignore[arg-type]
    for stage in STAGES:
        assert settings.call_s(stage) >= settings.budget_s(stage, requests)
        assert settings.call_s(stage) >= settings.budget_s("write")


@pytest.mark.parametrize("host", ["no..such", "a" * 64, "." + "b" * 10])
def test_a_name_that_no_host_has_is_said_before_anything_is_opened(host: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(gateway_address=f"{host}:80")
    assert words_of(refused.value) == "WINNOW_GATEWAY_ADDRESS: no host has this name: between dots are 1 to 63 letters"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:80", "gateway.winnow.svc.:80", "bücher.example:80"])
def test_names_and_numbers_of_hosts_are_taken(address: str) -> None:
    assert Settings(gateway_address=address).gateway_address == address
