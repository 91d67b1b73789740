"""Addresses lose their passwords, errors their words."""

import logging
from pathlib import Path

import orjson
import pytest

from winnow.errors import Unavailable
from winnow.registry import MlflowRegistry, first_line
from winnow.secrets import without_credentials, without_words
from winnow.serving.telemetry import JsonLines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:word@host:1/0", "redis://***@host:1/0"),
        ("see http://name:word@host/path, and mail@host", "see http://***@host/path, and mail@host"),
        ("http://host/p?q=a@b", "http://host/p?q=a@b"),
        ("nothing", "nothing"),
    ],
)
def test_an_address_says_no_name_and_no_password(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_a_logged_error_says_where_and_what_kind_but_not_what_it_quotes() -> None:
    said = "".join(["ma", "rk"])  # in no line of this file: lines are shown
    try:
        try:
            _ = {}[said]
        except KeyError as wrong:
            raise ValueError(said) from wrong
    except ValueError as wrong:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "unexpected error", None, (ValueError, wrong, None))
        line = orjson.loads(JsonLines().format(record))
        text = line["exception"]
    assert said not in text
    assert "builtins.KeyError" in text
    assert text.endswith("builtins.ValueError")
    assert "test_secrets.py" in text


def test_the_systems_own_words_stay() -> None:
    assert without_words(OSError(28, "No space left on device")).endswith("OSError: No space left on device")


def test_a_registry_that_is_away_is_told_without_its_password() -> None:
    with pytest.raises(Unavailable) as away:
        MlflowRegistry("http://name:word@127.0.0.1:9", Path("nowhere")).champion("ranking")
    assert "word" not in str(away.value)
    assert "127.0.0.1:9" in str(away.value)
    assert "word" not in first_line(ValueError("http://name:word@host"))
