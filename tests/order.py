"""In which order `make test` hands files to its workers: the longest first, so that none is left over at the end for one
worker while the others idle. Which worker runs which file is decided while they run; a file stays on one worker.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadScopeScheduling

LONGEST = (
    "tests/jobs/test_stream_crash.py",
    "tests/platform/test_up.py",
    "tests/contract/test_models.py",
    "tests/platform/test_live_replay.py",
    "tests/jobs/",
    "tests/training/test_retrieval_training.py",
    "tests/platform/test_retrain.py",
    "tests/platform/test_demo.py",
    "tests/platform/test_processes.py",
    "tests/training/test_ranking_training.py",
    "tests/platform/test_replay.py",
    "tests/platform/test_triton.py",
    "tests/platform/test_fuzz.py",
    "tests/platform/test_gate.py",
    "tests/platform/test_tls.py",
    "tests/training/test_loop.py",
    "tests/training/test_fusion.py",
    "tests/platform/redis/test_feast",
    "tests/platform/test_registry_server.py",
    "tests/platform/test_skew.py",
    "tests/platform/test_no_outbound_call.py",
    "tests/platform/test_feature_crash.py",
    "tests/platform/test_trace.py",
    "tests/platform/watching/test_dashboards.py",
    "tests/platform/test_refresh.py",
    "tests/platform/test_markers.py",
    "tests/cluster/test_chart.py",
    "tests/unit/winnow/serving/test_process.py",
)
"""Units of more than half a minute, by the seconds that a run of all of them printed (`ARGS=--durations=0`)."""

SHARING = ("tests/jobs/", "tests/platform/redis/test_feast")
"""How files begin that share what takes longer to start than they take: a Spark session, Feast's SDK."""

ALONE = "tests/jobs/test_stream_crash.py"  # it starts Spark as the program that it is


def unit_of(nodeid: str) -> str:
    """What one worker runs: a file, or all that share something."""
    file = nodeid.split("::", 1)[0]
    shared = [start for start in SHARING if file.startswith(start) and file != ALONE]
    return shared[0] if shared else file


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """By the places of their units in `LONGEST`; the others behind, in their order."""
    place = {unit: n for n, unit in enumerate(LONGEST)}
    return sorted(items, key=lambda item: place.get(unit_of(item.nodeid), len(LONGEST)))


class LongestFirst(LoadScopeScheduling):
    """xdist's own hands out the files with the most tests first; ours come in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
