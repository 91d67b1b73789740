"""The quotes of a CSV, looked at before it is parsed.

A quote that nothing closes makes every parser read on to the next one, however far: rows end up inside a value, and
nobody is told. Here a quoted value ends at a comma or with its line. A row in which one does not costs the line that it
begins with, and the next line is a new row. A quote inside a value that does not begin with one is an ordinary character.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 4 * 2**20  # read at a time
MAX_ROW_BYTES = 2**20  # after which an open quote counts as one that nothing closes

QUOTED = re.compile(rb'"(?:[^"]++|"")*+"')
PLAIN = re.compile(rb"[^,\r\n]*+")
VALUE = rb'(?:"(?:[^"]++|"")*+"|[^",\r\n][^,\r\n]*+|)'
ROW = re.compile(VALUE + rb"(?:," + VALUE + rb")*+(?:\r\n?|\n|\Z)")
BREAK = re.compile(rb"\r\n?|\n")
BESIDE = np.isin(np.arange(256), np.frombuffer(b',"\r\n', np.uint8))  # what may stand before and after a quoted value

OPEN = "a quote opens in this row and nothing closes it; only its first line was left out"
BROKEN = "text after a closing quote: inside a quoted value a quote is written twice"

Instead = Callable[[str], bytes]
"""The line that stands in the place of one with this fault."""


def checked(file: BinaryIO, instead: Instead) -> Iterator[bytes]:
    """The file in pieces whose every quoted value is closed."""
    rest = b""
    while block := file.read(PIECE_BYTES):
        text = rest + block
        piece, used = whole_rows(text, instead)
        rest = text[used:]
        yield piece
    yield whole_rows(rest, instead, last=True)[0]


def whole_rows(text: bytes, instead: Instead, *, last: bool = False) -> tuple[bytes, int]:
    """The rows that end in the text, and how much of it they are."""
    end = matched(text, last)
    if end is None or len(text) - end > MAX_ROW_BYTES:
        return mended(text, instead, last)
    return text[:end], end


def matched(text: bytes, last: bool) -> int | None:
    """Where the last whole row ends; None where a quote opens or closes in the middle of a value.

    Quotes open and close in turn, and one that is written twice closes and opens again.
    """
    if b'"' not in text:
        return len(text) if last else end_of_lines(text, 0, len(text))
    around = np.frombuffer(b"\n" + text + b"\n", np.uint8)
    quotes = np.flatnonzero(around == ord('"'))
    if not (BESIDE[around[quotes[0::2] - 1]].all() and BESIDE[around[quotes[1::2] + 1]].all()):
        return None
    if last:
        return len(text) if len(quotes) % 2 == 0 else None
    quotes -= 1
    end = len(text)
    while True:
        end = end_of_lines(text, 0, end)
        before = int(np.searchsorted(quotes, end))
        if before % 2 == 0:
            return end
        end = int(quotes[before - 1])


def end_of_lines(text: bytes, start: int, end: int) -> int:
    """Where the last line ends that does so between the two; `start` where none does."""
    return max(text.rfind(b"\n", start, end) + 1, text.rfind(b"\r", start, end) + 1, start)


def mended(text: bytes, instead: Instead, last: bool) -> tuple[bytes, int]:
    """As `whole_rows`, row by row: of a row with a fault the first line is replaced."""
    pieces: list[bytes] = []
    start = 0
    while (quote := text.find(b'"', start)) >= 0:
        begin = end_of_lines(text, start, quote)
        row = ROW.match(text, begin)
        if row and (last or row.end() < len(text)):
            pieces.append(text[start : row.end()])
            start = row.end()
            continue
        why, line = fault(text, begin), BREAK.search(text, begin)
        if not last and len(text) - begin <= MAX_ROW_BYTES and (why in ("", OPEN) or line is None):
            return b"".join([*pieces, text[start:begin]]), begin  # what is read next may complete it
        if not why:
            return b"".join([*pieces, text[start:]]), len(text)
        pieces += [text[start:begin], instead(why)]
        start = line.end() if line else len(text)
    end = end_of_lines(text, start, len(text))
    if last or len(text) - end > MAX_ROW_BYTES:
        end = len(text)
    return b"".join([*pieces, text[start:end]]), end


def fault(text: bytes, at: int) -> str:
    """What is wrong with the quotes of the row that begins here; empty where nothing is."""
    while True:
        value = (QUOTED if text[at : at + 1] == b'"' else PLAIN).match(text, at)
        if value is None:
            return OPEN
        after = text[value.end() : value.end() + 1]
        if after not in (b"", b",", b"\r", b"\n"):
            below = len(BREAK.findall(value[0]))
            if not below:
                return BROKEN
            where = f"{below} line{'s' if below > 1 else ''} below, in the middle of a value"
            return f"a quote opens in this row and closes {where}; only its first line was left out"
        if after != b",":
            return ""
        at = value.end() + 1


class Pieces(io.RawIOBase):
    """A file of these bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: WriteableBuffer, /) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        room = memoryview(into)
        count = min(len(room), len(self._piece))
        room[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count
