"""What the log says of a broker that takes no audit records: when it is lost and when they go on, once each, with its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from parts.program import HOST, free_ports
from tests.brokers import Takes
from winnow import kafka
from winnow.audit import feed
from winnow.audit.feed import Feed
from winnow.audit.folder import Mark


def test_a_broker_that_is_lost_and_comes_back_is_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", feed.__name__)
    monkeypatch.setattr(kafka, "CONNECT_S", 0.2)
    monkeypatch.setattr(feed, "RETRY_S", 0.0)
    (tmp_path / "0.jsonl").write_bytes(b"one\ntwo\n")
    end, address = Mark("0.jsonl", 8), f"{HOST}:{free_ports(1)[0]}"
    one = Feed(address, replicas=1)
    for _ in range(3):
        assert not one.step(tmp_path, "chain", end)
    monkeypatch.setattr(feed, "create", lambda *args, **options: None)
    monkeypatch.setattr(feed, "Producer", Takes)
    one.step(tmp_path, "chain", end)
    with (tmp_path / "0.jsonl").open("ab") as file:
        file.write(b"three\n")
    one.step(tmp_path, "chain", Mark("0.jsonl", 14))
    one.close()
    said = [(line.levelname, line.getMessage()) for line in caplog.records if line.name == feed.__name__]
    assert len(said) == 2
    assert said[0][0] == "WARNING"
    assert said[0][1].startswith(f"audit records wait in their files, Kafka at {address}: ")
    assert said[1] == ("INFO", f"audit records go to Kafka at {address} again")
