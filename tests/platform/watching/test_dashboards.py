"""Every panel of every dashboard shows something, and every label that a query names is there."""

from __future__ import annotations

import math
import time

import pytest

from tests.platform.watching.conftest import Watched
from tests.promql import Query, queries, selected

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(240)]
PATIENCE_S = 15.0
OWN = {"__name__", "le"}  # of every histogram


def shows(watched: Watched, query: Query) -> str:
    """ "" when the query has a number, and labels for its legend; else what is wrong with it."""
    found = watched.query(query.expression)
    if not any(not math.isnan(float(one["value"][1])) for one in found):
        return f"{query.board}: {query.panel}: no data for {query.expression}"
    missing = {label for label in query.legend for one in found if label not in one["metric"]}
    return f"{query.board}: {query.panel}: no label {missing}" if missing else ""


def test_every_panel_shows_data(watched: Watched) -> None:
    asked = queries()
    assert len(asked) > 90
    until = time.monotonic() + PATIENCE_S
    wrong = {query: why for query in asked if (why := shows(watched, query))}
    while wrong and time.monotonic() < until:
        time.sleep(1)
        wrong = {query: why for query in wrong if (why := shows(watched, query))}
    assert not wrong, "\n".join(wrong.values())


def test_every_label_that_a_query_names_exists(watched: Watched) -> None:
    series: dict[str, list[dict[str, str]]] = {}
    wrong = []
    for query in queries():
        for metric, labels in selected(query.expression):
            known = series.setdefault(metric, watched.labels_of(metric))
            wrong += [
                f"{query.board}: {query.panel}: {metric} has no label {label}"
                for label in labels
                if not any(label in one for one in known)
            ]
    assert not wrong, "\n".join(wrong)


def test_what_was_forced_is_counted(watched: Watched) -> None:
    for expression in (
        'winnow_stage_skipped_total{stage="explanation"}',
        'winnow_http_requests_total{route="/v1/events",status="422"}',
        'winnow_events_total{outcome="duplicate"}',
        'winnow_answers_total{quality="poorer"}',
        'winnow_outcomes_total{type="purchase",kind="recommend"}',
        *(
            f'winnow_outcome_unattributed_total{{reason="{why}"}}'
            for why in ("no_request", "unknown_request", "not_on_page")
        ),
    ):
        assert any(float(one["value"][1]) > 0 for one in watched.query(expression)), expression
