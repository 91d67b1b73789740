"""Every panel of every dashboard shows something, and every label that a query names is there."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections import Counter

import httpx
import pytest

from tests.platform.watching.conftest import Watched
from tests.promql import Query, queries, selected

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(240)]
PATIENCE_S = 60.0
MOST_SERIES = 1_500  # of one process
ID = re.compile(r"[uie]\d+|new-\d+|[0-9a-f]{32}")  # of a person, an item, an event, a request
LABELS = {
    *("__name__", "job", "instance", "le", "stage", "outcome", "route", "status", "method", "code", "kind", "version"),
    *("bundle", "variant", "quality", "type", "reason", "backend", "operation", "error", "signal", "reference", "peer"),
    *("component", "topic", "to", "by", "query", "task"),
    *("face", "certificate", "key", "source"),
}


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
        watched.more()
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
        lately = f"max_over_time({expression}[10m])"  # a scrape that was late ends a series for a moment
        assert any(float(one["value"][1]) > 0 for one in watched.query(lately)), expression


def test_no_series_names_a_person_an_item_or_anything_without_bound(watched: Watched) -> None:
    series = watched.labels_of('{__name__=~"winnow_.*",job=~"winnow-.*"}')
    assert {label for one in series for label in one} <= LABELS
    for one in series:
        for label, value in one.items():
            assert label in ("le", "instance") or not ID.fullmatch(value), one
    by_process = Counter(one["instance"] for one in series)
    assert max(by_process.values()) < MOST_SERIES, by_process


def test_names_keep_to_the_conventions(watched: Watched) -> None:
    for page in watched.pages:
        text = httpx.get(page, timeout=10).text
        ran = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
        own = [line for line in (ran.stdout + ran.stderr).splitlines() if "winnow_" in line]
        assert not own, own
        assert ran.returncode == 0, ran.stderr


def test_alerts_are_silent_about_a_platform_that_is_well(watched: Watched) -> None:
    """But for what was forced: all rules are evaluated, none fails, none that wakes somebody fires."""
    groups = watched.groups()
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    firing = list(watched.query('ALERTS{alertstate="firing",severity="critical"}'))
    assert not firing, firing
