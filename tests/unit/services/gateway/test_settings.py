"""Budgets of the gateway's settings, and what a call to a peer may take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.settings import Settings
from winnow.types import MAX_USERS

STAGES = ("feature", "retrieval", "ranking", "explanation")
BUDGETS = st.floats(1.0, 100_000.0)


@given(st.fixed_dictionaries({f"{name}_budget_ms": BUDGETS for name in (*STAGES, "write")}), st.integers(1, MAX_USERS))
def test_no_call_is_given_up_before_its_budget_is_over(budgets: dict[str, float], requests: int) -> None:
    settings = Settings(**budgets)  # type: ignore[arg-type]
    for stage in STAGES:
        assert settings.call_s(stage) >= settings.budget_s(stage, requests)
        assert settings.call_s(stage) >= settings.budget_s("write")
