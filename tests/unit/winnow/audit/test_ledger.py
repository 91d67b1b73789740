"""Acts are on disk before they take place or do not take place; answers that could not be recorded are counted, and the gap
is a record; whose they were is a pseudonym."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.gateway.audited import Answered, answer_of, answers_of, written_items
from services.gateway.decisions import DecisionLog
from tests.audits import ROOM, verified
from tests.choices import decision
from winnow.audit.acts import Act, acted
from winnow.audit.asked import Asked, operator
from winnow.audit.chain import Chain
from winnow.audit.ledger import Ledger, ledger
from winnow.audit.pseudonyms import Pseudonyms, pseudonyms
from winnow.audit.record import Entry, read
from winnow.audit.settings import AuditSettings
from winnow.decisions import to_json
from winnow.errors import DiskFull, FailedPrecondition, NotFound, Unavailable
from winnow.topics import Record
from winnow.types import Item, Person

ASKED = Asked("alice", "POST /v1/items:batch")
KEY = Pseudonyms(b"k" * 32)


def of(home: Path, **more: Any) -> Ledger:
    return ledger(AuditSettings(home=home, audit_free_bytes=ROOM, **more), "gateway")


def records(home: Path) -> list[dict[str, Any]]:
    assert verified(home / "audit").every_fault == []
    files = sorted((home / "audit").rglob("*.jsonl"))
    return [dict(read(line).body) for file in files for line in file.read_bytes().splitlines()]


def kinds(home: Path) -> list[str]:
    return [f"{one['kind']} {one.get('phase', '')}".strip() for one in records(home)]


async def test_an_act_is_said_before_it_begins_and_after_it_has_ended(tmp_path: Path) -> None:
    audit = of(tmp_path)
    audit.tend()

    async def work(act: Act) -> int:
        assert kinds(tmp_path)[-1] == "catalogue.write begun"
        act.told["watermark"] = 7
        return 7

    assert await acted(audit, "catalogue.write", ASKED, {"items": 3}, work) == 7
    audit.close()
    begun, done = records(tmp_path)[1:3]
    assert (begun["items"], begun["who"], begun["route"]) == (3, "alice", "POST /v1/items:batch")
    assert (done["phase"], done["watermark"], done["act"]) == ("done", 7, begun["act"])
    assert kinds(tmp_path)[-1] == "stop"


async def test_an_act_that_failed_is_said_by_its_kind_of_error_alone(tmp_path: Path) -> None:
    audit = of(tmp_path)
    audit.tend()

    async def work(act: Act) -> None:
        raise NotFound("no user 'somebody'")

    with pytest.raises(NotFound):
        await acted(audit, "catalogue.write", ASKED, {}, work)
    audit.close()
    assert records(tmp_path)[2]["error"] == "not-found"
    assert not any("somebody" in str(one) for one in records(tmp_path))


async def test_an_act_that_cannot_be_recorded_does_not_take_place(tmp_path: Path) -> None:
    audit = ledger(AuditSettings(home=tmp_path, audit_free_bytes=2**62), "gateway")
    audit.tend()
    begun = False

    async def work(act: Act) -> None:
        nonlocal begun
        begun = True

    with pytest.raises(DiskFull, match="cannot be audited"):
        await acted(audit, "catalogue.write", ASKED, {}, work)
    assert not begun


def test_answers_that_could_not_be_recorded_are_counted_and_become_a_gap(tmp_path: Path) -> None:
    full = True

    def open_chain() -> Chain:
        if full:
            raise DiskFull("full")
        return Chain(tmp_path / "audit", "gateway", free_bytes=ROOM)

    def unaudited() -> float:
        return REGISTRY.get_sample_value("winnow_audit_unaudited_total", {"reason": "disk_full"}) or 0.0

    audit, before = Ledger(open_chain, lambda: KEY), unaudited()
    audit.answers(3, lambda names: [Entry("answer", {})] * 3)
    audit.missed("queue_full", 2)
    assert unaudited() - before == 3
    full = False
    audit._open_at = 0.0
    audit.answers(1, lambda names: [Entry("answer", {})])
    audit.tend()
    audit.close()
    assert kinds(tmp_path) == ["start", "gap", "answer", "stop"]
    assert records(tmp_path)[1]["reasons"] == {"disk_full": 3, "queue_full": 2}
    [report] = verified(tmp_path / "audit").reports
    assert report.unaudited == 5


class Nowhere:
    def deliver(self, records: Sequence[Record]) -> None: ...

    def idle(self) -> bool:
        return False

    def close(self) -> None: ...


async def test_every_answer_of_a_decision_log_has_its_record_and_what_overflows_is_a_gap(tmp_path: Path) -> None:
    log = DecisionLog(Nowhere(), queue_bytes=2**16, audit=of(tmp_path))
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0.05)
    for n in range(400):
        log.log(decision(request_id=f"r{n}"))
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    found = records(tmp_path)
    answered = [int(one["request_id"][1:]) for one in found if one["kind"] == "answer"]
    missed = sum(one["unaudited"] for one in found if one["kind"] == "gap")
    assert answered == sorted(set(answered))
    assert len(answered) + missed == 400
    assert missed > 0


def test_an_answers_record_names_it_without_telling_whose_it_was() -> None:
    one = decision(request_id="r1")
    entry = answer_of(Answered(one, to_json(one), ASKED), KEY)
    assert entry.about["request_id"] == "r1"
    assert entry.about["person"] == KEY.of(Person("u"))
    assert entry.about["bundles"] == {"retrieval": "b"}
    assert entry.at == one.at
    assert len(entry.about["decision"]) == 64
    assert "'u'" not in str({**entry.about, "decision": "", "key": ""})
    other = answers_of([Answered(one, b"another line", ASKED)], KEY)[0]
    assert other.about["decision"] != entry.about["decision"]


def test_a_write_is_known_by_a_digest_of_all_its_facts() -> None:
    first = written_items([Item("i1", attributes={"a": "1", "b": "2"}), Item("i2")])
    assert first == written_items([Item("i1", attributes={"b": "2", "a": "1"}), Item("i2")])
    assert first["digest"] != written_items([Item("i1", attributes={"a": "1", "b": "3"}), Item("i2")])["digest"]
    assert (first["items"], first["first"]) == (2, "i1")


def test_a_person_has_one_pseudonym_per_key_and_a_session_another(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "audit-pseudonyms"
    names = pseudonyms(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert names.of(Person("u")) == pseudonyms(file).of(Person("u", "s"))
    assert names.of(Person("u")) != names.of(Person(session_id="u"))
    file.unlink()
    other = pseudonyms(file)
    assert (other.of(Person("u")), other.name) != (names.of(Person("u")), names.name)
    file.write_text("nonsense")
    with pytest.raises(FailedPrecondition, match="audit-pseudonyms"):
        pseudonyms(file)


def test_without_a_thread_nothing_is_recorded_and_nothing_refused(tmp_path: Path) -> None:
    audit = of(tmp_path)
    audit.end(audit.begin("catalogue.write", ASKED, {}))
    audit.close()
    assert not (tmp_path / "audit").exists()


def test_a_folder_that_cannot_be_made_refuses_acts_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    audit = of(tmp_path)
    audit.tend()
    with pytest.raises(Unavailable, match="cannot be audited"):
        audit.begin("catalogue.write", ASKED, {})


def test_an_operator_has_a_name() -> None:
    assert "@" in operator()


def test_a_key_that_cannot_be_read_is_said_once_and_counts_every_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "audit-pseudonyms").write_text("nonsense")
    audit = of(tmp_path)
    for _ in range(5):
        audit.answers(2, lambda names: [Entry("answer", {})] * 2)
        audit.tend()
    audit.close()
    assert len(caplog.records) == 1
    [report] = verified(tmp_path / "audit").reports
    assert report.unaudited == 10
