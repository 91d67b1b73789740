"""Personal data and secrets are planted wherever a request or a setting can hold them, and a whole run is searched for
them: what the processes wrote, their metrics and traces, and the audit log.

The run meets good requests, bad ones, lost parts and dead backends, at the level DEBUG: what is said in trouble is what
leaks.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from cli.main import app
from parts.program import HOST, Running, free_ports, start
from parts.services import INNER, environment, gateway, inner
from tests.brokers import eventually
from tests.homes import PATIENT, copy_of, registry_of
from tests.otlp import collecting
from winnow.audit.record import read
from winnow.audit.verify import verify_folder
from winnow.v1 import gateway_pb2 as pb
from winnow.v1 import gateway_pb2_grpc as rpc
from winnow.v1 import types_pb2

pytestmark = [pytest.mark.platform, pytest.mark.slow, pytest.mark.timeout(240)]

MARK = re.compile(rb"mark-[a-z]+-7f3a")
"""Whatever is planted looks like this."""


def mark(where: str) -> str:
    return f"mark-{where}-7f3a"


USER, SESSION = mark("user"), mark("session")
AT = "2026-01-31T12:00:00Z"


@dataclass
class Run:
    """Five processes that were asked, hurt and ended; what they said, by its source."""

    home: Path
    said: dict[str, bytes]
    answers: list[str]  # request ids


@pytest.fixture(scope="module")
def run(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("markers")
    home = copy_of(served_home, folder / "home")
    ports = dict(zip(("rest", "gateway", "dead", *INNER), free_ports(3 + len(INNER)), strict=True))
    metrics = dict(zip(INNER, free_ports(len(INNER)), strict=True))
    settings = environment(home, ports) | registry_of(served_home)
    settings |= PATIENT | {
        "WINNOW_REDIS_URL": f"redis://{mark('redisname')}:{mark('redispassword')}@{HOST}:{ports['dead']}/0",
        "WINNOW_KAFKA_BOOTSTRAP": f"{HOST}:{ports['dead']}",
        "WINNOW_BUNDLE_EVERY_S": "1",
        "WINNOW_AUDIT_FREE_BYTES": "0",
    }
    lost = settings | {
        "WINNOW_MLFLOW_URI": f"http://{mark('mlflowname')}:{mark('mlflowpassword')}@{HOST}:{ports['dead']}"
    }
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        settings |= (traced := {"WINNOW_OTLP_ENDPOINT": collector.endpoint, "WINNOW_TRACE_SAMPLE": "1"})
        lost |= traced
        started: dict[str, Running] = {}
        for name in INNER:
            own = lost if name == "explanation" else settings
            own = {**own, "WINNOW_METRICS_ADDRESS": f"{HOST}:{metrics[name]}"}
            one = inner(name, folder / name, ports[name], own)
            started[name] = start(replace(one, command=(*one.command, "--log-level", "DEBUG")))
            stack.callback(started[name].stop)
        face = gateway(folder / "gateway", ports["rest"], settings)
        started["gateway"] = start(
            replace(face, command=(*face.command, "--log-level", "DEBUG"), ready=lambda: listening(ports["rest"]))
        )
        stack.callback(started["gateway"].stop)
        said: dict[str, bytes] = {}
        with httpx.Client(base_url=f"http://{HOST}:{ports['rest']}", timeout=20, headers=HEADERS) as client:
            eventually(lambda: whole(client), 90)
            answers = asked(client)
            called(f"{HOST}:{ports['gateway']}")
            explanation = started["explanation"].program.log
            eventually(lambda: b"cannot be asked" in explanation.read_bytes(), 60)
            said |= {f"metrics of {n}": httpx.get(f"http://{HOST}:{p}/metrics").content for n, p in metrics.items()}
            collector.wait(lambda: {one.service for one in collector.spans} >= {"gateway", *INNER})
            for name in ("ranking", "feature"):
                started[name].kill()
                answers += asked(client)
            said["metrics of gateway"] = client.get("/metrics").content
        started["gateway"].stop()
        stack.pop_all().close()
    said["traces"] = "\n".join(collector.raw).encode()
    said |= {f"log of {name}": one.program.log.read_bytes() for name, one in started.items()}
    return Run(home, said, answers)


HEADERS = {
    "authorization": f"Bearer {mark('bearer')}",
    "x-api-key": mark("apikey"),
    "cookie": f"session={mark('cookie')}",
    "user-agent": mark("agent"),
    "x-request-id": mark("requestid"),
    "x-forwarded-for": mark("forwarded"),
    "traceparent": mark("traceparent"),
}
ASK = {"user_id": USER, "session_id": SESSION, "query": mark("query"), "n": 5}
EVENT = {"event_id": mark("event"), "type": "click", "item_id": "i1", "user_id": USER, "session_id": SESSION}
EVENT |= {"occurred_at": AT, "context": {mark("key"): mark("context")}}  # type: ignore[dict-item]


def listening(rest: int) -> str:
    try:
        return "" if httpx.get(f"http://{HOST}:{rest}/healthz", timeout=1).is_success else "not yet"
    except httpx.TransportError as away:
        return str(away)


def whole(client: httpx.Client) -> bool:
    """Whether everything answers but the explanation, whose registry is away."""
    answer = client.post("/v1/recommendations", json=ASK)
    return answer.is_success and set(answer.json()["skipped"]) <= {"explanation"}


def asked(client: httpx.Client) -> list[str]:
    """Every way to be asked, rightly and wrongly; the ids of the answers."""
    bodies: list[tuple[str, str, Any]] = [
        ("POST", "/v1/recommendations", ASK),
        ("POST", "/v1/recommendations:batch", {"requests": [ASK, {"session_id": SESSION}]}),
        ("GET", f"/v1/recommendations?user_id={USER}&n=3", None),
        ("GET", f"/v1/trending?user_id={USER}", None),
        ("GET", "/v1/items/i1/similar", None),
        ("POST", "/v1/events", EVENT),
        ("POST", "/v1/events", {**EVENT, "type": mark("type")}),
        ("POST", "/v1/events", {"events": [EVENT, {**EVENT, "quantity": mark("quantity")}]}),
        ("POST", "/v1/recommendations", {"user_id": USER * 100}),
        ("POST", "/v1/recommendations", {**ASK, "token": mark("token")}),
        ("POST", "/v1/recommendations", {**ASK, "filter": {"field": mark("field"), "op": "in", "values": [USER]}}),
        ("POST", "/v1/recommendations", {**ASK, mark("unknown"): USER}),
        ("POST", "/v1/recommendations", {**ASK, "context": {"surface": mark("surface"), "device": mark("device")}}),
        ("POST", "/v1/similar", {"item_ids": [mark("item")]}),
        ("GET", f"/v1/nothing/{USER}?user_id={USER}", None),
        ("DELETE", f"/v1/recommendations?user_id={USER}", None),
        ("PUT", "/v1/items/written", {"title": mark("title"), "attributes": {"to": USER}}),
    ]
    found: list[str] = []
    for method, path, body in bodies:
        answer = client.request(method, path, json=body)
        assert answer.status_code < 500 or answer.status_code == 503, (path, answer.text)
        if answer.is_success and "recommendations" in path:
            said = answer.json()
            found += [one["request_id"] for one in said.get("answers", [said])]
    client.post("/v1/events", content=f'{{"user_id": "{USER}", ', headers={"content-type": "application/json"})
    client.post("/v1/events", content=USER.encode(), headers={"content-type": "text/plain"})
    return found


def called(address: str) -> None:
    """The same by gRPC, with metadata, and with what it refuses."""
    with grpc.insecure_channel(address) as channel:
        stub = rpc.RecommenderServiceStub(channel)
        metadata = (("authorization", f"Bearer {mark('bearer')}"), ("x-api-key", mark("apikey")))
        person = types_pb2.Person(user_id=USER, session_id=SESSION)
        stub.Recommend(
            pb.RecommendBatchRequest(requests=[pb.RecommendRequest(person=person, query=mark("query"))]),
            metadata=metadata,
            timeout=20,
        )
        wrong = types_pb2.Person(user_id=USER * 100)
        with pytest.raises(grpc.RpcError):
            stub.Recommend(
                pb.RecommendBatchRequest(requests=[pb.RecommendRequest(person=wrong)]), metadata=metadata, timeout=20
            )


def test_no_log_no_metric_and_no_trace_holds_what_was_planted(run: Run) -> None:
    assert len(run.said) == 11
    assert all(run.said.values()), "a process said nothing"
    leaks = {name: sorted(set(MARK.findall(said))) for name, said in run.said.items()}
    assert {name: found for name, found in leaks.items() if found} == {}


def test_the_search_looks_at_what_processes_said_in_trouble(run: Run) -> None:
    assert b"feature skipped" in run.said["log of gateway"]
    assert b"ranking skipped" in run.said["log of gateway"]
    assert b"stand_in skipped: Redis" in run.said["log of gateway"]
    assert b"Kafka" in run.said["log of gateway"]
    assert b"***@" in run.said["log of explanation"]
    assert {name for name in ("gateway", *INNER) if f'"{name}"'.encode() in run.said["traces"]} == {"gateway", *INNER}
    assert b"POST /v1/events" in run.said["traces"]


def test_every_answer_and_every_write_stands_in_the_audit_log_without_what_was_planted(run: Run) -> None:
    folder = run.home / "audit"
    assert verify_folder(folder).every_fault == []
    lines = [line for file in folder.rglob("*.jsonl") for line in file.read_bytes().splitlines()]
    records = [read(line).body for line in lines]
    answered = {one["request_id"]: one for one in records if one["kind"] == "answer"}
    assert set(run.answers) <= set(answered)
    first = answered[run.answers[0]]
    assert first["route"] == "POST /v1/recommendations"
    assert first["bundles"].keys() == {"retrieval", "ranking"}
    assert {one["person"] for one in answered.values() if one["verb"] == "recommend"} > {first["person"]}
    assert "/winnow.v1.RecommenderService/Recommend" in {one["route"] for one in answered.values()}
    writes = [one["phase"] for one in records if one["kind"] == "catalogue.write"]
    assert writes[:2] == ["begun", "done"]
    assert "failed" in writes  # the feature service was killed
    assert [MARK.findall(line) for line in lines if MARK.search(line)] == []


def test_who_has_the_key_finds_a_persons_answers(run: Run) -> None:
    shown = CliRunner().invoke(app, ["audit", "show", "--home", str(run.home), "--user", USER, "--json"])
    assert shown.exit_code == 0, shown.output
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(found) > 10
    assert {one["kind"] for one in found} == {"answer"}
    nobody = CliRunner().invoke(app, ["audit", "show", "--home", str(run.home), "--user", "somebody else", "--json"])
    assert nobody.stdout == ""


def test_an_ingestion_says_nothing_of_whom_it_read(tmp_path: Path) -> None:
    data = tmp_path / "shop"
    data.mkdir()
    good = f"{USER},i1,click,2026-01-01T00:00:00Z\n"
    bad = f"{USER},,click,{mark('time')}\n"
    (data / "events.csv").write_text("user_id,item_id,type,occurred_at\n" + good * 3 + bad * 3)
    read_in = CliRunner().invoke(app, ["ingest", "--data", str(data), "--home", str(tmp_path / "home")])
    assert read_in.exit_code == 0, read_in.output
    assert "rejected rows" in read_in.output
    assert MARK.findall(read_in.output.encode()) == []
    assert verify_folder(tmp_path / "home" / "audit").every_fault == []
