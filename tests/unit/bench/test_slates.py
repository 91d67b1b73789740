"""The cost of arranging a page: every stage is measured, and really does something to the page it is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.figures import AIMS
from bench.slates import STAGES, N, Page, slates_here


def test_every_stage_has_its_figure_and_all_of_them_an_aim() -> None:
    found = slates_here(turns=3)
    stages = (*STAGES, "new_items", "rules", "explore", "all")
    assert list(found) == [f"slate.{N}.{stage}_ms" for stage in stages]
    assert all(0 < ms < 1_000 for ms in found.values())
    assert "slate.200.all_ms" in {aim.name for aim in AIMS}


def test_no_stage_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    page = Page(tmp_path)
    ranked = np.argsort(-page.scores[:N]).tolist()
    for name, wish in STAGES.items():
        assert page.varied(wish, "dpp" if name == "dpp" else "mmr").tolist() != ranked, name
    assert page.lifted(0).tolist() != ranked
    candidates, ordered, fixed, rules = page.ruled_order()
    assert (len(candidates), len(fixed)) == (N + 1, 1)
    assert any(page.drawn(candidates, ordered, fixed, rules, turn).tolist() != ordered.tolist() for turn in range(5))
    assert sorted(page.everything(0).tolist()) == list(range(N + 1))
