"""A broker that is away does not fill the log: what the client library says again and again is said once a minute."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from parts.program import HOST, free_ports
from winnow import kafka
from winnow.errors import Unavailable
from winnow.serving.repeats import Repeats
from winnow.serving.telemetry import JsonLines, configure_logging
from winnow.topics import EVENTS

LIBRARY = logging.getLogger("kafka")
NOISY = logging.getLogger("kafka.net.manager")
OURS = logging.getLogger("services.feature.forward")
ALWAYS = ("Connection failed: KafkaConnectionError", "Bootstrap connection to bootstrap-0 failed")


class Log:
    """What a handler writes, and the clock of its filter."""

    def __init__(self, **settings: int) -> None:
        self.at = 1000.0
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(JsonLines())
        self.handler.addFilter(Repeats("kafka", clock=lambda: self.at, **settings))

    @property
    def said(self) -> list[str]:
        return [str(line["message"]) for line in self.lines]

    @property
    def lines(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self._text.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    yield from kept(Log())


@pytest.fixture
def small() -> Iterator[Log]:
    yield from kept(Log(at_most=2))


def kept(one: Log) -> Iterator[Log]:
    root = logging.getLogger()
    root.addHandler(one.handler)
    root.setLevel(logging.INFO)
    yield one
    root.removeHandler(one.handler)
    root.setLevel(logging.WARNING)


def attempt(port: int) -> None:
    with pytest.raises(Unavailable):
        kafka.create(f"{HOST}:{port}", [EVENTS])


def test_attempts_to_reach_a_closed_port_are_told_once_a_minute(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "CONNECT_S", 0.7)
    [port] = free_ports(1)

    def told() -> list[str]:
        """Of what every attempt says; a slow one says more."""
        return [text for text in log.said if text.startswith(ALWAYS)]

    attempt(port)
    assert [sum(text.startswith(words) for text in told()) for words in ALWAYS] == [1, 1]
    log.at += 30
    attempt(port)
    assert len(told()) == 2
    log.at += 31
    attempt(port)
    [again] = [text for text in told()[2:] if text.startswith("Connection failed")]
    assert "(and " in again
    assert again.endswith(" times in the 61 s before)")
    assert len(told()) <= 4


def test_only_numbers_make_no_difference(log: Log) -> None:
    NOISY.warning("Bootstrap %s not ready; waiting %.2f secs", "bootstrap-0", 0.08)
    NOISY.warning("Bootstrap %s not ready; waiting %.2f secs", "bootstrap-0", 12.5)
    NOISY.error("Bootstrap %s not ready; waiting %.2f secs", "bootstrap-0", 0.08)
    NOISY.warning("authentication failed")
    assert log.said == ["Bootstrap bootstrap-0 not ready; waiting 0.08 secs"] * 2 + ["authentication failed"]


def test_our_own_lines_and_those_of_other_libraries_all_pass(log: Log) -> None:
    for _ in range(3):
        OURS.warning("behind")
        logging.getLogger("kafkaesque").warning("odd")
    assert log.said == ["behind", "odd"] * 3


def test_what_ends_is_counted_too(log: Log) -> None:
    for _ in range(5):
        NOISY.warning("gone")
    log.at += 100
    OURS.info("back")
    assert log.said == ["gone", "back"], "it may come again"
    log.at += 20
    OURS.info("all is well")
    assert sorted(log.said[2:]) == ["all is well", "kafka: left out 4 more like this: gone"]
    [summary] = [line for line in log.lines if "4 more" in str(line["message"])]
    assert (summary["level"], summary["logger"]) == ("warning", "winnow.serving.repeats")


def test_kinds_of_lines_are_bounded(small: Log) -> None:
    for word in ("one", "one", "two", "three", "one"):
        LIBRARY.warning(word)
    assert small.said == ["one", "two", "kafka: left out 1 more like this: one", "three", "one"]


def test_a_line_that_cannot_be_written_is_none_of_its_business(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    NOISY.warning("%d partitions", "many")
    assert log.said == []


def test_every_service_logs_so(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    for _ in range(3):
        NOISY.warning("Connection failed: %s", "refused")
    assert capsys.readouterr().err.count("Connection failed: refused") == 1
