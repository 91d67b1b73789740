"""Every alert fires when it should and is silent when it should be, by Prometheus's own tool; every one has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.promql import groups_of, rule_files, rules, rules_of

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: make packages")
ROOT = Path(__file__).parents[3]
SEVERITIES = {"critical", "warning"}
DAY_S = 86_400

Series = dict[str, str]
"""Values by series, in promtool's notation, one a minute: `0+60x30` rises by 60 for 30 minutes."""


@dataclass(frozen=True)
class Case:
    """`alert` fires at `at` of these series, and not of the quiet ones."""

    alert: str
    fires: Series
    quiet: Series
    at: str = "40m"


def requests(errors: str, others: str, status: str = "500") -> Series:
    of = 'route="/v1/recommendations",namespace="n"'
    return {
        f'winnow_http_requests_total{{{of},status="{status}"}}': errors,
        f'winnow_http_requests_total{{{of},status="200"}}': others,
    }


def recommendations(fast: str, every: str) -> Series:
    of = 'route="/v1/recommendations",namespace="n"'
    return {
        f'winnow_http_request_seconds_bucket{{{of},le="0.1"}}': fast,
        f"winnow_http_request_seconds_count{{{of}}}": every,
    }


def answers(quality: str, values: str, whole: str = "0+6000x60") -> Series:
    return {
        f'winnow_answers_total{{quality="{quality}",kind="recommend"}}': values,
        'winnow_answers_total{quality="whole",kind="recommend"}': whole,
    }


def skips(values: str) -> Series:
    return {'winnow_stage_skipped_total{stage="ranking"}': values} | answers("poorer", values)


def backend(failures: str) -> Series:
    of = 'backend="redis",operation="write_states"'
    return {
        f'winnow_backend_failures_total{{{of},error="Unavailable"}}': failures,
        f"winnow_backend_seconds_count{{{of}}}": "0+1000x60",
    }


def events(accepted: str, answered: str) -> Series:
    return {'winnow_events_total{outcome="accepted"}': accepted} | answers("whole", answered, answered)


def calls_with_events(refused: str) -> Series:
    return {
        'winnow_http_requests_total{route="/v1/events",status="503"}': refused,
        'winnow_http_requests_total{route="/v1/events",status="200"}': "0+1000x60",
    }


def positions(known: str) -> Series:
    return {"winnow_item_log_position": "1000x60", 'winnow_catalogue_position{instance="a"}': known}


def bundle_of(kind: str, data_at: int, newest: int) -> Series:
    return {
        f'winnow_bundle_data_timestamp_seconds{{kind="{kind}"}}': f"{data_at}x400",
        "winnow_newest_event_timestamp_seconds": f"{newest}x400",
    }


def clicks(observed: str, predicted: str) -> Series:
    return {
        'winnow_outcome_observed_clicks_total{bundle="b"}': observed,
        'winnow_outcome_predicted_clicks_total{bundle="b"}': predicted,
    }


def moved(value: float, signals: int) -> Series:
    return {f'winnow_drift_psi{{bundle="b",signal="s{n}"}}': f"{value}x200" for n in range(signals)}


def ends(days: float) -> Series:
    """A certificate that ends so many days after 2 hours from the beginning."""
    return {'winnow_certificate_expiry_timestamp_seconds{certificate="gateway"}': f"{int(7_200 + days * DAY_S)}x120"}


CASES = [
    # 2 % of requests fail for an hour: 20 times what may. 0.5 % is five times, which wakes nobody.
    Case("WinnowErrorsBurn", requests("0+20x90", "0+980x90"), requests("0+5x90", "0+995x90"), at="80m"),
    Case("WinnowErrorsBurn", requests("0+20x90", "0+980x90", "503"), requests("0+20x90", "0+980x90", "422"), at="80m"),
    # It burned and has stopped: the short window ends it.
    Case("WinnowErrorsBurn", requests("0+20x100", "0+980x100"), requests("0+20x60 1200x40", "0+980x100"), at="95m"),
    Case("WinnowErrorsErode", requests("0+5x1600", "0+995x1600"), requests("0+1x1600", "0+1999x1600"), at="26h"),
    Case(
        "WinnowLatencyBurns", recommendations("0+800x90", "0+1000x90"), recommendations("0+950x90", "0+1000x90"), "80m"
    ),
    Case(
        "WinnowLatencyErodes",
        recommendations("0+960x1600", "0+1000x1600"),
        recommendations("0+995x1600", "0+1000x1600"),
        at="26h",
    ),
    Case("WinnowServiceDown", {'up{job="winnow-ranking"}': "1x5 0x60"}, {'up{job="redis"}': "0x60"}),
    Case("WinnowServiceDown", {'up{job="winnow-ranking"}': "1x5 0x60"}, {'up{job="winnow-ranking"}': "1x60"}),
    Case(
        "WinnowGatewayAbsent",
        {'winnow_build_info{component="ranking"}': "1x60"},
        {'winnow_build_info{component="gateway"}': "1x60"},
    ),
    Case("WinnowStageSkipped", skips("0+300x60"), skips("0+6x60")),
    Case("WinnowAnswersPoor", answers("poorer", "0+3000x60"), answers("poorer", "0+600x60")),
    Case("WinnowAnswersPoor", answers("empty", "0+3000x60"), answers("empty", "0+60x60")),
    Case("WinnowBackendFails", backend("0+100x60"), backend("0+10x60")),
    Case("WinnowCertificateEndsSoon", ends(13), ends(15), at="120m"),
    Case("WinnowCertificateEndsNow", ends(1), ends(3), at="120m"),
    Case("WinnowEventsStopped", events("500x60", "0+10x60"), events("0+1x60", "0+10x60"), at="50m"),
    Case("WinnowEventsStopped", events("500x60", "0+10x60"), events("500x60", "9x60"), at="50m"),
    Case("WinnowEventsRefused", calls_with_events("0+50x60"), calls_with_events("0+1x60")),
    Case(
        "WinnowBrokerBehind", {"winnow_forward_backlog_seconds": "90x60"}, {"winnow_forward_backlog_seconds": "20x60"}
    ),
    Case(
        "WinnowBrokerFarBehind",
        {"winnow_forward_backlog_seconds": "4000x60"},
        {"winnow_forward_backlog_seconds": "90x60"},
    ),
    Case("WinnowRedisBehind", {"winnow_hot_behind_rows": "5000x60"}, {"winnow_hot_behind_rows": "5000x3 0x60"}),
    Case("WinnowCatalogueBehind", positions("500x60"), positions("990x60")),
    Case(
        "WinnowStreamBehind",
        {'winnow_stream_lag_records{query="features"}': "50000x60"},
        {'winnow_stream_lag_records{query="features"}': "50000x10 0x60"},
    ),
    Case(
        "WinnowStreamStopped",
        {'winnow_stream_running{query="features"}': "1x10 0x60"},
        {'winnow_stream_running{query="features"}': "1x20 0x2 1x60"},
    ),
    Case(
        "WinnowDeadLetters",
        {"winnow_stream_dead_letters_total": "0x30 3x30"},
        {"winnow_stream_dead_letters_total": "3x60"},
    ),
    Case("WinnowDeadLetters", {"winnow_dead_letters_total": "0x30 3x30"}, {"winnow_dead_letters_total": "3x60"}),
    Case(
        "WinnowDecisionsDropped",
        {'winnow_decisions_dropped_total{reason="queue_full"}': "0x30 7x30"},
        {'winnow_decisions_dropped_total{reason="queue_full"}': "7x60"},
    ),
    Case(
        "WinnowAuditGap",
        {'winnow_audit_unaudited_total{reason="disk_full"}': "0x36 1+1x30"},
        {'winnow_audit_unaudited_total{reason="disk_full"}': "7x60"},
    ),
    *(
        Case(
            "WinnowJobLate",
            {f'winnow_job_last_success_timestamp_seconds{{task="{task}"}}': "0x20000"},
            {f'winnow_job_last_success_timestamp_seconds{{task="{task}"}}': "0+60x20000"},
            at=at,
        )
        for task, at in (("refresh", "120m"), ("retrain-ranking", "3d"), ("retrain", "10d"))
    ),
    Case(
        "WinnowBundleRefused",
        {'winnow_bundles_refused_total{kind="ranking"}': "0x30 1x30"},
        {'winnow_bundles_refused_total{kind="ranking"}': "1x60"},
    ),
    Case("WinnowEmbeddingsStale", bundle_of("retrieval", 0, 3 * 3600), bundle_of("retrieval", 0, 3600), at="60m"),
    Case("WinnowRankerStale", bundle_of("ranking", 0, 4 * DAY_S), bundle_of("ranking", 0, DAY_S), at="120m"),
    Case(
        "WinnowScoreDrift",
        {'winnow_drift_psi{bundle="b",signal="score"}': "0.4x60"},
        {'winnow_drift_psi{bundle="b",signal="score"}': "0.15x60"},
    ),
    Case("WinnowFeatureDrift", moved(0.7, 3), moved(0.7, 2), at="90m"),
    Case("WinnowPredictionsWrong", clicks("0+6x500", "0+2x500"), clicks("0+2x500", "0+2x500"), at="8h"),
    Case("WinnowPredictionsWrong", clicks("0+1x500", "0+4x500"), clicks("0+3x500", "0+1x30"), at="8h"),
]


EVERY = {"m": "1m", "h": "10m", "d": "2h"}
"""How often rules are evaluated in a test that lasts minutes, hours or days."""


def groups() -> dict[tuple[str, str], list[Case]]:
    """Cases by the file that holds their alert, and by how often its rules are evaluated."""
    homes = {rule["alert"]: file for file in rule_files() for rule in rules_of(file) if "alert" in rule}
    found: dict[tuple[str, str], list[Case]] = {}
    for case in CASES:
        found.setdefault((homes[case.alert].name, EVERY[case.at[-1]]), []).append(case)
    return found


def checks(case: Case) -> list[dict[str, Any]]:
    """Two tests of promtool: it fires, it does not."""
    expression = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)'
    return [
        {
            "name": f"{case.alert} {number} {expected}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {"expr": expression, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": expected}]}
            ],
        }
        for number, (series, expected) in enumerate(((case.fires, 1), (case.quiet, 0)))
    ]


@pytest.mark.parametrize(("name", "every"), groups())
def test_each_alert_fires_when_it_should_and_not_when_it_should_not(tmp_path: Path, name: str, every: str) -> None:
    document = {
        "rule_files": [str(file) for file in rule_files() if file.name == name],
        "evaluation_interval": every,
        # Else promtool takes the groups in an order drawn per run, and an alert evaluated before the rates it reads sees
        # none where rules are evaluated more seldom than Prometheus looks back (5 min).
        "group_eval_order": [group["name"] for file in rule_files() if file.name == name for group in groups_of(file)],
        "tests": [check for case in groups()[name, every] for check in checks(case)],
    }
    file = tmp_path / "alerts.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    ran = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested() -> None:
    assert {rule["alert"] for rule in rules() if "alert" in rule} == {case.alert for case in CASES}


def test_prometheus_takes_the_rules() -> None:
    ran = subprocess.run(["promtool", "check", "rules", *rule_files()], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in SEVERITIES
            assert rule["annotations"]["summary"][-1] != "."
            assert len(rule["annotations"]["description"]) > 20
            assert "for" in rule


def test_every_runbook_is_written() -> None:
    for rule in rules():
        if "alert" in rule:
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert anchor == rule["alert"].lower()
            section = sections(ROOT / page)[anchor]
            assert "```sh" in section or "`" in section, rule["alert"]
            for word in ("**Means.**", "**Look.**", "**Do.**"):
                assert word in section, f"{rule['alert']} has no {word}"


def sections(page: Path) -> dict[str, str]:
    """Text by anchor, as GitHub makes anchors of headings."""
    parts = re.split(r"^### (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {title.strip().lower(): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_link_of_the_runbooks_leads_somewhere() -> None:
    page = ROOT / "docs" / "runbooks.md"
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8"))
    assert len(links) > 20
    for path, anchor in links:
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Of all headings: lower case, blanks as hyphens, without punctuation."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
