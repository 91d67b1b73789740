"""What the log says of a broker that is away: that it is, where it was looked for, and when it is back; once each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from parts.program import HOST, free_ports
from services.feature import forward
from services.feature.build import build
from services.feature.settings import Settings
from tests.brokers import eventually
from tests.events import click
from tests.homes import small_home
from winnow import kafka
from winnow.topics import Placed, Record


class Back:
    """A broker's producer that takes everything."""

    def __init__(self, bootstrap: str, name: str) -> None: ...

    def produce(self, topic: str, records: Sequence[Record]) -> list[Placed]:
        return [Placed(0, n) for n, _ in enumerate(records)]

    def close(self) -> None: ...


async def test_a_broker_that_is_away_is_said_to_be_so_once_with_its_address_and_so_is_its_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(kafka, "CONNECT_S", 0.2)
    monkeypatch.setattr(forward, "RETRY_S", 0.05)
    attempts = []

    def create(*args: object, **options: object) -> None:
        attempts.append(1)
        kafka.create(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(forward, "create", create)
    address = f"{HOST}:{free_ports(1)[0]}"

    def said(words: str) -> list[tuple[str, str]]:
        own = [one for one in caplog.records if one.name == forward.__name__]
        return [(one.levelname, one.getMessage()) for one in own if words in one.getMessage()]

    one = build(Settings(home=small_home(tmp_path / "home"), segment_bytes=2**16, kafka_bootstrap=address))
    forwarding = asyncio.create_task(one.forward())
    try:
        await one.record([click("new")])
        await asyncio.to_thread(eventually, lambda: len(attempts) >= 6)
        [(level, text)] = said("winnow.events is behind")
        assert level == "WARNING"
        assert f"Kafka at {address}: " in text
        monkeypatch.setattr(forward, "create", lambda *args, **options: None)
        monkeypatch.setattr(forward, "end_offsets", lambda *args: {0: 1})
        monkeypatch.setattr(forward, "Producer", Back)
        await asyncio.to_thread(eventually, lambda: said("winnow.events goes to"))
        assert said("winnow.events goes to") == [("INFO", f"winnow.events goes to Kafka at {address} again")]
        assert len(said("winnow.events is behind")) == 1
    finally:
        forwarding.cancel()
        await asyncio.gather(forwarding, return_exceptions=True)
        await one.close()
