"""What the log says of a broker that takes no decisions: when it is lost and when they go on, once each, with its address."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from parts.program import HOST, free_ports
from services.gateway import to_broker
from services.gateway.spool import Spool
from services.gateway.to_broker import ToBroker
from services.gateway.to_disk import ToDisk
from tests.brokers import Takes
from winnow import kafka
from winnow.topics import Record


def test_a_broker_that_is_lost_and_comes_back_is_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", to_broker.__name__)
    monkeypatch.setattr(kafka, "CONNECT_S", 0.2)
    monkeypatch.setattr(to_broker, "RETRY_S", 0.0)
    address = f"{HOST}:{free_ports(1)[0]}"
    spool = partial(Spool, tmp_path / "decisions", max_bytes=2**20, free_bytes=0, rolling=False)
    one = ToBroker(address, ToDisk(spool), replicas=1)
    record = Record(b"ann", b'{"user_id":"ann","session_id":""}')
    for _ in range(3):
        one.deliver([record])
    monkeypatch.setattr(to_broker, "create", lambda *args, **options: None)
    monkeypatch.setattr(to_broker, "Producer", Takes)
    for _ in range(3):
        one.deliver([record])
    one.close()
    said = [(line.levelname, line.getMessage()) for line in caplog.records if line.name == to_broker.__name__]
    assert len(said) == 2
    assert said[0][0] == "WARNING"
    assert said[0][1].startswith(f"decisions wait on disk, Kafka at {address}: ")
    assert said[1] == ("INFO", f"decisions go to Kafka at {address} again")
