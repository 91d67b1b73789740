"""Whose words stand in logs and in the audit log as a request's id."""

from __future__ import annotations

import pytest

from winnow.serving.serve import named_by_us

OURS = "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_service_of_ours_passes_the_id_on() -> None:
    assert named_by_us("/winnow.v1.RankingService/Rank", OURS) == OURS


@pytest.mark.parametrize("brought", ["ann.smith@example.org", OURS.upper(), OURS + "0", "", OURS[:-1] + "\n"])
def test_words_are_no_id(brought: str) -> None:
    assert named_by_us("/winnow.v1.RankingService/Rank", brought) == ""


def test_callers_from_outside_choose_none() -> None:
    assert named_by_us("/winnow.v1.RecommenderService/Recommend", OURS) == ""
