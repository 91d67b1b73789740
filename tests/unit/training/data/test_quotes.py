"""Of a CSV whose quotes do not match, the line at fault is left out and no other."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.data import quotes
from training.data.files import csv_frames
from training.data.quotes import BROKEN, OPEN, Pieces, checked

STANDS_IN = "!"


def read(text: str, faults: list[str] | None = None) -> str:
    def instead(why: str) -> bytes:
        if faults is not None:
            faults.append(why)
        return f"{STANDS_IN}\n".encode()

    with io.BufferedReader(Pieces(checked(io.BytesIO(text.encode()), instead))) as whole:
        return whole.read().decode()


def faults_of(text: str) -> list[str]:
    faults: list[str] = []
    read(text, faults)
    return faults


anything = st.text('a",\n', max_size=60)


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=anything, piece=st.integers(1, 20))
def test_every_line_is_kept_or_replaced_and_what_is_kept_can_be_read(
    text: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "PIECE_BYTES", piece)
    found = read(text)
    for before, after in zip(text.split("\n"), found.removesuffix("\n").split("\n"), strict=False):
        assert after in (before, STANDS_IN)
    assert found.removesuffix("\n").count("\n") == text.removesuffix("\n").count("\n")
    list(csv.reader(io.StringIO(found, newline=""), strict=True))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.text('a",\r\né', max_size=8), min_size=1, max_size=4), max_size=6),
    piece=st.integers(1, 40),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    style=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_written_as_it_should_be_passes_as_it_is(
    rows: list[list[str]], piece: int, end: str, style: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "PIECE_BYTES", piece)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=style).writerows(rows)
    assert read(text.getvalue()) == text.getvalue()


@pytest.mark.parametrize("piece", [1, 7, 1_000])
@pytest.mark.parametrize(
    ("text", "faults", "found"),
    [
        ('a,"b\nc,d\n', [OPEN], "!\nc,d\n"),
        ('a,"b\nc,""\n', [OPEN], '!\nc,""\n'),
        ('a,"b"c\nd,e\n', [BROKEN], "!\nd,e\n"),
        ('a,"b"c', [BROKEN], "!\n"),
        ('"a,b\n"c","d"\n', ["1 line below"], '!\n"c","d"\n'),
        ('a,"b\nc\nd,"e",f\n', ["2 lines below"], '!\nc\nd,"e",f\n'),
        ('a,24" wide\n"b""","c\nd"\n', [], 'a,24" wide\n"b""","c\nd"\n'),
    ],
)
def test_the_line_at_fault_is_replaced_and_the_next_is_a_row(
    text: str, faults: list[str], found: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotes, "PIECE_BYTES", piece)
    assert read(text) == found
    for said, why in zip(faults_of(text), faults, strict=True):
        assert why in said


def test_a_quote_that_closes_too_far_away_counts_as_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "MAX_ROW_BYTES", 50)
    monkeypatch.setattr(quotes, "PIECE_BYTES", 10)
    near, far = "x\n" * 20, "x\n" * 60
    assert read(f'a,"b{near}"\n') == f'a,"b{near}"\n'
    assert faults_of(f'a,"b\n{far}",c\n') == [OPEN, OPEN]
    assert read(far.replace("\n", "") + "\n") == far.replace("\n", "") + "\n"


def test_row_numbers_go_on_after_a_line_that_was_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('a,b\n1,"x\ny"\n2,"z\n3,w\n4\n5,v"\n6,"u"t\n7,s\n', encoding="utf-8")
    [*frames] = csv_frames(file, ["a", "b"])
    rows = {row["row"]: row.get("fault") or row["b"] for frame in frames for row in frame.to_dicts()}
    assert rows == {
        1: "x\ny",
        2: "z\n3,w\n4\n5,v",
        3: BROKEN,
        4: "s",
    }
