"""Homes for tests, and events drawn by hypothesis."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import strategies as st

from tests.events import click
from training.data.generated import World, generate
from training.ingest import ingest_source
from winnow.types import Event, EventType

SMALL = World(items=60, people=12, events=400, seed=5)
STAGES = ("feature", "retrieval", "ranking", "explanation")
BUDGETS = {f"{stage}_budget_ms": 20_000.0 for stage in STAGES}
PATIENT = {f"WINNOW_{budget.upper()}_BUDGET_MS": "10000" for budget in (*STAGES, "write")}
"""Settings of a platform whose answers are looked at, not their times: a busy machine must not make a stage late."""


def small_home(home: Path, world: World = SMALL) -> Path:
    """A home that holds a generated shop."""
    ingest_source(generate(world), home)
    return home


def copy_of(home: Path, into: Path) -> Path:
    """A home of its own for a platform: two processes must not write one log. The registry stays where it is."""
    shutil.copytree(home / "log", into / "log")
    shutil.copy(home / "dataset.json", into / "dataset.json")
    return into


def registry_of(home: Path) -> dict[str, str]:
    """The setting by which a platform over another home uses this one's registry."""
    return {"WINNOW_MLFLOW_URI": f"sqlite:///{home}/mlflow.db"}


@st.composite
def event_lists(draw: st.DrawFn, *, in_order: bool, largest: int = 40) -> list[Event]:
    """Events of a few users and sessions that meet, on a few items, some unknown; times ascend when `in_order`."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("", "", "u1", "u2", "new")),
                st.sampled_from(("", "s1", "s2", "s3")),
                st.sampled_from(tuple(EventType)),
                st.sampled_from(("i1", "i2", "i3", "i4", "never heard of")),
                st.integers(0, 30),
            ).filter(lambda row: row[0] or row[1]),
            max_size=largest,
        )
    )
    return [
        click(f"x{n}", item, user, n if in_order else minute, type=kind, session_id=session, value=3.5)
        for n, (user, session, kind, item, minute) in enumerate(drawn)
    ]
