"""What a served catalogue and its people take: resident memory of a feature service over a home, as soon as it listens."""

from __future__ import annotations

from pathlib import Path

from bench.scale.steps import DIM, STATE
from parts.program import Program, free_ports, running
from parts.services import environment, inner

MEBI = 2**20


def feature_rss_mb(home: Path, logs: Path) -> float:
    """Unavailable with the end of its log when the service does not come up."""
    ports = dict.fromkeys(("feature", "retrieval", "ranking", "explanation", "rest", "gateway"), 0)
    [ports["feature"]] = free_ports(1)
    service: Program = inner("feature", logs, ports["feature"], environment(home, ports))
    with running(service) as [started]:
        return float(started.process.memory_info().rss) / MEBI


def columns_mb_per_million(bytes_per_item: float) -> dict[str, float]:
    """MB a million items take as columns, besides the items themselves: by arithmetic, and as the index was measured."""
    return {
        "index": bytes_per_item * 1e6 / MEBI,
        "vectors": DIM * 4 * 1e6 / MEBI,
        "item_states": STATE * 4 * 1e6 / MEBI,
    }
