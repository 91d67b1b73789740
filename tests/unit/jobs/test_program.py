"""What the jobs' programs are told is checked before anything is started, and said in one line when it is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.program import above, brokers, ended, home_folder, moment, redis_url, root, talkative
from jobs.skew import main as skew
from winnow.errors import InvalidArgument, Unavailable

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", "2026-01-31T12:00:00", str(NOON), f"{NOON:.0f}"]
)
def test_a_moment_is_a_number_or_iso_8601(text: str) -> None:
    assert moment(text) == NOON


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (moment, "yesterday"),
        (moment, "nan"),
        (moment, "9" * 40),
        (above(0), "0"),
        (above(0), "nan"),
        (brokers, "kafka"),
        (brokers, "kafka:9092,"),
        (brokers, "http://kafka:9092"),
        (redis_url, "127.0.0.1:6379"),
        (home_folder, "nowhere at all"),
    ],
)
def test_what_cannot_be_meant_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)


def test_a_wrong_address_does_not_show_its_password() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as wrong:
        redis_url("redsi://:secret@host:6379")
    assert "secret" not in str(wrong.value)


def test_what_can_be_meant_is_taken(tmp_path: Path) -> None:
    assert brokers("a:1,b.c-d:9092,[::1]:9092") == "a:1,b.c-d:9092,[::1]:9092"
    assert redis_url("rediss://:secret@host:6379/0") == "rediss://:secret@host:6379/0"
    assert root("s3a://bucket/winnow/") == "s3a://bucket/winnow"
    assert root(str(tmp_path / "new")) == str(tmp_path / "new")
    assert home_folder(str(tmp_path)) == tmp_path
    assert above(0, int)("7") == 7


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (Unavailable("Kafka is away"), 1, "error: Kafka is away\n"),
        (InvalidArgument("must be small", field="n"), 2, "error: n: must be small\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_expected_error_is_one_line(
    raised: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise raised

    with pytest.raises(SystemExit) as end:
        ended(main)
    assert (end.value.code, capsys.readouterr().err) == (status, told)


def test_a_home_that_is_not_there_is_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        skew(["--home", "nowhere at all"])
    assert end.value.code == 2
    assert "nowhere at all is no folder" in capsys.readouterr().err


def test_a_bug_is_not_hidden() -> None:
    def main() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ended(main)


def test_the_address_of_redis_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.stream import arguments

    words = ["--bootstrap", "kafka:9092", "--home", "/srv/home"]
    monkeypatch.delenv("WINNOW_REDIS_URL", raising=False)
    with pytest.raises(SystemExit):
        arguments(words)
    monkeypatch.setenv("WINNOW_REDIS_URL", "redis://:secret@redis:6379/0")
    assert arguments(words).redis == "redis://:secret@redis:6379/0"
    monkeypatch.setenv("WINNOW_REDIS_URL", "redis:6379")
    with pytest.raises(SystemExit):
        arguments(words)


def test_a_job_tells_of_a_variable_that_nothing_reads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WINNOW_REDIS_ULR", "redis://:secret@away")
    talkative()
    assert "WINNOW_REDIS_ULR is set, and nothing reads it; did you mean WINNOW_REDIS_URL?" in caplog.text
    assert "secret" not in caplog.text
