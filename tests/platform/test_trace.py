"""One request, one trace: over five processes, Redis, Triton and Kafka, as a collector gets it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from bench.processes import Platform
from bench.processes import running as platform_running
from parts.kafka import kafka
from parts.program import HOST, free_ports, running
from parts.redis import redis
from parts.triton import ENVIRONMENT, repository_of, triton
from tests.brokers import messages
from tests.homes import PATIENT, copy_of, registry_of
from tests.otlp import Collector, Seen, collecting
from training.dataset import load
from winnow.topics import EVENTS
from winnow.tracing import carried_by

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(400)]

FIVE = {"gateway", "feature", "retrieval", "ranking", "explanation"}
CALLER = "00f067aa0ba902b7"  # the span of the caller, who is not of us
SECRET = "planted-1f3a"
ON_TRITON = ENVIRONMENT.is_dir()


@dataclass(frozen=True)
class Traced:
    """A platform whose every process tells the collector."""

    collector: Collector
    platform: Platform
    http: httpx.Client
    bootstrap: str
    logs: Path
    user: str

    def sampled(self) -> tuple[str, dict[str, str]]:
        """A trace that its caller wants recorded: its id, and the header that says so."""
        trace_id = uuid4().hex
        return trace_id, {"traceparent": f"00-{trace_id}-{CALLER}-01"}

    def whole(self, trace_id: str, *wanted: str, services: Set[str] = frozenset()) -> list[Seen]:
        """The trace, once it has spans of all these names and services, and every parent: each sends its own in its
        own time."""

        spans: list[Seen] = []

        def arrived() -> bool:
            spans[:] = self.collector.of(trace_id)
            parents = {span.parent_id for span in spans} - {span.span_id for span in spans}
            names, from_ = {span.name for span in spans}, {span.service for span in spans}
            return names >= set(wanted) and from_ >= services and parents <= {CALLER}

        self.collector.wait(arrived)
        return spans


@pytest.fixture(scope="module")
def traced(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    kafka_port, redis_port, triton_port, triton_http = free_ports(4)
    bootstrap = f"{HOST}:{kafka_port}"
    with collecting() as collector:
        # A rate that no request reaches by itself: only those join that their caller sampled.
        options = ("mode=opentelemetry", f"opentelemetry,url={collector.http}", "rate=2000000000", "level=TIMESTAMPS")
        told = tuple(f"--trace-config={one}" for one in options)
        settings = registry_of(served_home) | {
            "WINNOW_OTLP_ENDPOINT": collector.endpoint,
            "WINNOW_TRACE_SAMPLE": "0",
            "WINNOW_KAFKA_BOOTSTRAP": bootstrap,
            "WINNOW_REDIS_URL": f"redis://{HOST}:{redis_port}/0",
            "WINNOW_BUNDLE_EVERY_S": "1",
            **PATIENT,
            "WINNOW_FORWARD_WAIT_MS": "5000",
            "WINNOW_REDIS_TIMEOUT_MS": "5000",
            "WINNOW_TRITON_TIMEOUT_S": "10",
        }
        programs = [redis(folder / "redis", redis_port), kafka(folder / "kafka", kafka_port)]
        if ON_TRITON:
            programs.append(triton(folder / "triton", triton_port, triton_http, options=told))
            settings["WINNOW_TRITON_ADDRESS"] = f"{HOST}:{triton_port}"
            settings["WINNOW_TRITON_REPOSITORY"] = str(repository_of(folder / "triton"))
        user = next(person.user_id for person in load(served_home).people if person.user_id)
        home = copy_of(served_home, folder / "home")
        with (
            running(*programs),
            platform_running(home, "five_processes", folder / "logs", settings) as platform,
            httpx.Client(base_url=f"http://{HOST}:{platform.rest}", timeout=30) as http,
        ):
            there = Traced(collector, platform, http, bootstrap, folder / "logs", user)
            settled(there)
            yield there


def settled(there: Traced) -> None:
    """Every part works: the first requests may come before Redis is caught up, or a table is read."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        answer = there.http.get("/v1/recommendations", params={"user_id": there.user, "n": 5}).json()
        if answer["skipped"] == []:
            return
        time.sleep(0.2)
    raise AssertionError(answer["skipped"])


def tree(spans: list[Seen]) -> dict[str, Seen]:
    """By id, where it is one: a single root below the caller, every parent there, no child before its parent."""
    known = {span.span_id: span for span in spans}
    assert len(known) == len(spans)
    assert {span.parent_id for span in spans} - known.keys() == {CALLER}, Counter(span.name for span in spans)
    assert [span.parent_id for span in spans].count(CALLER) == 1
    for span in spans:
        if span.parent_id != CALLER:
            assert span.start_ns >= known[span.parent_id].start_ns
    return known


def above(span: Seen, known: dict[str, Seen]) -> list[str]:
    """The names from a span up to the root."""
    names = []
    while span.parent_id in known:
        span = known[span.parent_id]
        names.append(span.name)
    return names


def test_an_answer_is_one_trace_over_five_processes_and_triton(traced: Traced) -> None:
    trace_id, header = traced.sampled()
    body = {"user_id": traced.user, "n": 10, "explain": True}
    answer = traced.http.post("/v1/recommendations", json=body, headers=header)
    assert answer.json()["skipped"] == []
    stages = ["feature", "retrieval", "ranking", "arrange", "explanation"]
    spans = traced.whole(trace_id, "POST /v1/recommendations", *stages, "send winnow.decisions", services=FIVE)
    known = tree(spans)
    assert len(spans) >= 15
    assert {span.service for span in spans} >= FIVE
    assert not any(span.failed for span in spans)
    [root] = [span for span in spans if span.parent_id == CALLER]
    assert root.attributes["winnow.request_id"] == answer.headers["x-request-id"]
    ranked = next(span for span in spans if (span.service, span.name) == ("ranking", "winnow.v1.RankingService/Rank"))
    assert above(ranked, known) == ["winnow.v1.RankingService/Rank", "ranking", "POST /v1/recommendations"]


@pytest.mark.skipif(not ON_TRITON, reason="scripts/triton.py has not been run")
def test_tritons_own_spans_lie_below_the_inference_that_asked_for_them(traced: Traced) -> None:
    trace_id, header = traced.sampled()
    traced.http.post("/v1/recommendations", json={"user_id": traced.user, "n": 10}, headers=header)
    spans = traced.whole(trace_id, "POST /v1/recommendations", "InferRequest", services=FIVE)
    known = tree(spans)
    inferences = [span for span in known.values() if span.name == "InferRequest"]
    assert {span.service for span in inferences}.isdisjoint(FIVE)
    assert {known[span.parent_id].name for span in inferences} == {"triton.infer"}
    assert {known[span.parent_id].service for span in inferences} <= {"retrieval", "ranking"}


def test_an_event_is_traced_to_redis_and_into_its_record_in_kafka(traced: Traced) -> None:
    trace_id, header = traced.sampled()
    event = {"event_id": f"{SECRET}-e", "type": "click", "item_id": "i1", "user_id": f"{SECRET}-u"}
    traced.http.post("/v1/events", json=event, headers=header).raise_for_status()
    spans = traced.whole(trace_id, "POST /v1/events", "record", "redis.write", "send winnow.events")
    known = tree(spans)
    sent = next(span for span in spans if span.name == "send winnow.events")
    hops = ["winnow.v1.FeatureService/Record"] * 2
    assert above(sent, known) == [*hops, "record", "POST /v1/events"]
    record = next(one for one in messages(traced.bootstrap, EVENTS) if f"{SECRET}-e".encode() in one.value)
    place = carried_by(record.headers)
    assert place is not None
    assert (place.trace_id, place.span_id) == (trace_id, sent.span_id)


def test_no_span_names_a_person_an_event_or_an_item(traced: Traced) -> None:
    trace_id, header = traced.sampled()
    body = {"user_id": f"{SECRET}-q", "session_id": f"{SECRET}-s", "query": SECRET, "n": 3}
    statuses = [
        traced.http.post("/v1/recommendations", json=body, headers=header).status_code,
        traced.http.get("/v1/recommendations", params=body, headers=header).status_code,
        traced.http.get(f"/v1/items/{SECRET}/similar", headers=header).status_code,
        traced.http.get(f"/{SECRET}", headers=header).status_code,
    ]
    assert statuses == [200, 422, 404, 404]
    faces = ("POST /v1/recommendations", "GET /v1/recommendations", "GET /v1/items/{item_id}/similar", "GET other")
    traced.whole(trace_id, *faces)
    assert SECRET not in "".join(traced.collector.raw)
    assert traced.user not in [value for one in traced.collector.spans for value in one.attributes.values()]


def test_what_is_not_sampled_is_not_recorded_and_its_log_lines_name_the_trace(traced: Traced) -> None:
    before, trace_id = {one.trace_id for one in traced.collector.spans}, uuid4().hex
    log = traced.logs / "gateway.log"
    written = log.stat().st_size
    header = {"traceparent": f"00-{trace_id}-{CALLER}-00"}
    traced.http.get("/v1/recommendations", params={"user_id": traced.user}, headers=header).raise_for_status()
    traced.http.get("/v1/recommendations", params={"user_id": traced.user}).raise_for_status()
    explanation = traced.platform.processes["explanation"]
    explanation.suspend()
    try:
        body = {"user_id": traced.user, "explain": True}
        answer = traced.http.post("/v1/recommendations", json=body, headers=header)
    finally:
        explanation.resume()
    assert answer.json()["skipped"] == ["explanation"]
    lines = [json.loads(line) for line in log.read_bytes()[written:].splitlines() if line.startswith(b"{")]
    assert {line.get("trace_id") for line in lines if "explanation skipped" in line["message"]} == {trace_id}
    time.sleep(1.5)  # a batch would have left by now
    assert trace_id not in before
    assert {one.trace_id for one in traced.collector.spans} == before
