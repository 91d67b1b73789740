"""Which services may compute on the event loop, and which must not, because they wait for another machine."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from services.ranking import build as ranking
from services.ranking.settings import Settings as RankingSettings
from services.retrieval import build as retrieval
from services.retrieval.settings import Settings as RetrievalSettings
from winnow.worker import BriefWorker, Worker


@pytest.mark.parametrize(
    ("away", "kind"),
    [({}, BriefWorker), ({"triton_address": "triton:8001"}, Worker), ({"milvus_uri": "http://milvus:19530"}, Worker)],
    ids=["here", "triton", "milvus"],
)
def test_a_search_that_waits_for_another_machine_keeps_off_the_loop(
    away: dict[str, str], kind: type[Worker], tmp_path: Path
) -> None:
    with closing(retrieval.worker_of(RetrievalSettings(home=tmp_path, **away))) as worker:
        assert type(worker) is kind


@pytest.mark.parametrize(
    ("away", "kind"), [({}, BriefWorker), ({"triton_address": "triton:8001"}, Worker)], ids=["here", "triton"]
)
def test_a_ranking_that_waits_for_another_machine_keeps_off_the_loop(
    away: dict[str, str], kind: type[Worker], tmp_path: Path
) -> None:
    with closing(ranking.worker_of(RankingSettings(home=tmp_path, **away))) as worker:
        assert type(worker) is kind
