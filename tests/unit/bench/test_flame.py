"""The flame graph is right about what was sampled, and well-formed; versus says which tree is the cheaper one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.flame import WIDTH, picture, stacks_of
from bench.versus import Cost, told

RAW = [
    "<module> (a.py:1);recommend (services/gateway/recommender.py:92);rank (services/ranking/service.py:90) 30",
    "<module> (a.py:1);recommend (services/gateway/recommender.py:97);explain <x> (services/explanation/service.py:3) 10",
    "Thread._bootstrap (threading.py:1);_worker (concurrent/futures/thread.py:81) 500",
    "ends (winnow/worker.py:1);Event.wait (threading.py:1);Condition.wait (threading.py:9) 500",
    "no samples",
]


def boxes(svg: str) -> dict[str, float]:
    """Widths by title."""
    found = {}
    for group in ElementTree.fromstring(svg).findall("{*}g"):
        title, rect = group.find("{*}title"), group.find("{*}rect")
        assert title is not None
        assert rect is not None
        found[str(title.text)] = float(rect.get("width", ""))
    return found


def test_boxes_are_as_wide_as_their_share() -> None:
    found = boxes(picture(stacks_of(RAW), "all"))
    assert found == {
        "all: 100.0 %": WIDTH,
        "recommend services/gateway/recommender.py: 100.0 %": WIDTH,
        "rank services/ranking/service.py: 75.0 %": 0.75 * WIDTH,
        "explain <x> services/explanation/service.py: 25.0 %": 0.25 * WIDTH,
    }


def test_several_processes_stand_beside_each_other() -> None:
    both = [*stacks_of(RAW, "gateway"), *stacks_of(RAW[:1], "ranking")]
    assert {"gateway: 57.1 %", "ranking: 42.9 %"} <= boxes(picture(both, "all")).keys()


def test_nothing_sampled_is_no_picture() -> None:
    with pytest.raises(ValueError, match="nothing"):
        picture(stacks_of(RAW[2:]), "all")


def test_the_cheaper_tree_is_named_by_the_median_of_pairs() -> None:
    platform: Any = SimpleNamespace(processes=["all"])
    sides: list[Any] = [SimpleNamespace(name=name, platform=platform) for name in ("this", "other")]
    costs = [[Cost({"all": 1.0}, 20.0), Cost({"all": 2.0}, 10.0)], [Cost({"all": 9.0}, 5.0), Cost({"all": 12.0}, 5.0)]]
    lines = list(told(sides, costs))
    assert lines[0] == "this: 5.00 ms of CPU a request (all 5.00), 12 requests a second"
    assert lines[2] == "this / other, cpu_ms: 0.625 (0.500 to 0.750)"
    assert lines[3] == "this / other, rate: 1.500 (1.000 to 2.000)"
