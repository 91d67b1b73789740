"""The audit log's copy in its topic: complete after the broker was away, checked by itself and against the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.audits import ROOM, answer, kinds, verified
from tests.brokers import Broker, messages
from winnow.audit.check import Kind
from winnow.audit.feed import SENT
from winnow.audit.ledger import Ledger, ledger
from winnow.audit.record import sealed
from winnow.audit.settings import AuditSettings
from winnow.audit.topic import verify_topic
from winnow.kafka import Producer
from winnow.topics import AUDIT, Record

pytestmark = [pytest.mark.platform, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy broker gets everything before a writer closes."""
    monkeypatch.setattr("winnow.audit.feed.DELIVERY_S", 20.0)
    monkeypatch.setattr("winnow.audit.ledger.CLOSE_S", 40.0)


def writer(home: Path, broker: Broker) -> Ledger:
    settings = AuditSettings(home=home, audit_free_bytes=ROOM, kafka_bootstrap=broker.bootstrap)
    return ledger(settings, "gateway")


def wrote(audit: Ledger, records: int) -> None:
    audit.tend()
    audit.answers(records, lambda names: [answer(n) for n in range(records)])
    audit.close()


def test_the_topic_holds_every_record_and_tells_what_the_files_lack(own_broker: Broker, tmp_path: Path) -> None:
    wrote(writer(tmp_path, own_broker), 1_200)
    verdict, newest = verify_topic(own_broker.bootstrap)
    assert verdict.every_fault == []
    assert verdict.records == 1_202
    folder = tmp_path / "audit"
    assert verified(folder, known=newest).every_fault == []

    own_broker.running.stop()
    wrote(writer(tmp_path, own_broker), 10)  # they wait in their files
    own_broker.again()
    wrote(writer(tmp_path, own_broker), 10)
    verdict, newest = verify_topic(own_broker.bootstrap)
    assert (kinds(verdict), verdict.records) == ([], 1_226)

    [sent] = folder.rglob(SENT)
    sent.unlink()
    wrote(writer(tmp_path, own_broker), 10)  # everything comes again
    verdict, newest = verify_topic(own_broker.bootstrap)
    assert (kinds(verdict), verdict.records) == ([], 1_238)

    shutil.rmtree(folder)  # all of it, with its heads; a writer goes on as if there had been nothing
    wrote(writer(tmp_path, own_broker), 5)
    assert verified(folder).every_fault == []
    [fault] = verified(folder, known=verify_topic(own_broker.bootstrap)[1]).every_fault
    assert fault.kind is Kind.REMOVED
    assert "the whole chain" in fault.detail


def test_what_somebody_else_puts_into_the_topic_is_found(own_broker: Broker, tmp_path: Path) -> None:
    wrote(writer(tmp_path, own_broker), 20)
    lines = [message.value for message in messages(own_broker.bootstrap, AUDIT)]
    [chain] = {message.key.decode() for message in messages(own_broker.bootstrap, AUDIT)}
    forged = sealed(chain, 30, lines[-1][9:73].decode(), answer(1)).line
    producer = Producer(own_broker.bootstrap, "intruder")
    producer.produce(
        AUDIT.name, [Record(chain.encode(), lines[3].replace(b"r2", b"rX")), Record(chain.encode(), forged)]
    )
    producer.close()
    verdict, _ = verify_topic(own_broker.bootstrap)
    assert kinds(verdict) == ["altered", "removed"]
    assert [(fault.line, fault.seq) for fault in verdict.every_fault] == [(22, 22), (23, 23)]
