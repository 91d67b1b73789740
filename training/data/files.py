"""Parquet, CSV and JSONL files as frames of bounded size, rows numbered from 1 (a CSV's header is not a row).

A row that cannot be read at all comes with nothing but `row` and `fault`, the reason; a file that cannot be read
raises InvalidArgument in one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from training.data.quotes import Pieces, checked
from training.data.source import CHUNK
from winnow.errors import InvalidArgument

BLOCK_BYTES = 16 * 2**20  # of a CSV, read at a time
LINES, LINES_BYTES = 50_000, 64 * 2**20  # of a JSONL file, read at a time
VECTORS = 10_000  # rows of a Parquet file with a column of lists of numbers, read at a time
MAX_LINE = 2**20  # bytes
FAULT = "\0fault "  # what a line begins with that stands in the place of one whose quotes do not match
SUFFIXES = (".parquet", ".csv", ".jsonl")


def columns_in(file: Path) -> list[str]:
    """Names of the file's columns; of JSONL, those of its first ten thousand rows."""
    try:
        if file.suffix == ".parquet":
            return list(pq.read_schema(file).names)
        if file.suffix == ".csv":
            return header(file)
    except (OSError, pa.ArrowInvalid, ValueError) as wrong:
        raise unreadable(file, wrong) from wrong
    first = next(jsonl_frames(file, 10_000), pl.DataFrame())
    return [name for name in first.columns if name not in ("row", "fault")]


def frames(file: Path, wanted: list[str]) -> Iterator[pl.DataFrame]:
    """The wanted columns of a file, chunk by chunk."""
    read = {".parquet": parquet_frames, ".csv": csv_frames}.get(file.suffix)
    try:
        yield from read(file, wanted) if read else jsonl_frames(file, LINES, wanted)
    except (OSError, pa.ArrowInvalid, pl.exceptions.PolarsError) as wrong:
        raise unreadable(file, wrong) from wrong


def unreadable(file: Path, wrong: Exception) -> InvalidArgument:
    reason = str(wrong).splitlines()[0] if str(wrong) else type(wrong).__name__
    return InvalidArgument(f"{file.name} cannot be read as {file.suffix[1:].upper()}: {reason}", field="source")


def parquet_frames(file: Path, wanted: list[str]) -> Iterator[pl.DataFrame]:
    row = 1
    with pq.ParquetFile(file) as opened:
        vectors = any(is_vector(field.type) for field in opened.schema_arrow if field.name in wanted)
        for batch in opened.iter_batches(VECTORS if vectors else CHUNK, columns=wanted):
            frame = pl.DataFrame(pa.Table.from_batches([batch])).with_row_index("row", offset=row)
            row += frame.height
            yield frame


def is_vector(kind: pa.DataType) -> bool:
    lists: bool = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def header(file: Path) -> list[str]:
    with file.open("rb") as stream:
        line = stream.readline(MAX_LINE).decode("utf-8-sig")
    names = pcsv.read_csv(pa.BufferReader(line.encode()), pcsv.ReadOptions(autogenerate_column_names=True))
    found = [str(column[0].as_py()) for column in names.columns]
    twice = {name for name in found if found.count(name) > 1}
    if twice:
        raise ValueError(f"its header names {', '.join(sorted(twice))} twice")
    return found


def csv_frames(file: Path, wanted: list[str]) -> Iterator[pl.DataFrame]:
    """Every value as text. A line with too few or too many values becomes a fault, one that is not UTF-8 and one whose
    quotes do not match (`training.data.quotes`) too.

    The parser reads Latin-1, in which every byte is a character: it stops at the first byte that is not UTF-8.
    """
    names = header(file)
    faults: list[tuple[int, str]] = []

    def instead(why: str) -> bytes:
        return (FAULT + why + "," * len(names) + "\n").encode()  # one value too many: the parser hands it to `note`

    def note(line: pcsv.InvalidRow) -> str:
        counted = f"{line.actual_columns} values, the header has {line.expected_columns}"
        why = line.text.strip().removeprefix(FAULT).rstrip(",") if line.text.startswith(FAULT) else counted
        faults.append((line.number or 0, why))
        return "skip"

    with file.open("rb") as stream:
        reader = pcsv.open_csv(
            BufferedReader(Pieces(checked(stream, instead))),
            pcsv.ReadOptions(
                block_size=BLOCK_BYTES, column_names=names, skip_rows=1, use_threads=False, encoding="latin-1"
            ),
            pcsv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=wanted),
        )
        good, told = 0, 0
        for batch in reader:
            frame = as_utf8(pl.DataFrame(pa.Table.from_batches([batch])))
            lines = numbered(good, batch.num_rows, [line - 1 for line, _ in faults])
            good += batch.num_rows
            yield pl.concat([frame.with_columns(pl.Series("row", lines)), faulty(faults[told:])], how="diagonal")
            told = len(faults)
    yield faulty(faults[told:])


def as_utf8(frame: pl.DataFrame) -> pl.DataFrame:
    """Text that was read as Latin-1, read as what it is; `fault` names the columns of a row that are not UTF-8."""
    faults = pl.Series("fault", [None] * frame.height, pl.String)
    for name in frame.columns:
        column = frame[name]
        rows = (column.str.len_bytes() > column.str.len_chars()).fill_null(False).arg_true()
        if not len(rows):
            continue
        read = [utf8(text) for text in column.gather(rows)]
        frame = frame.with_columns(column.scatter(rows, pl.Series(read, dtype=pl.String)))
        wrong = [row for row, text in zip(rows, read, strict=True) if text is None]
        faults = faults.scatter(wrong, f"{name} is not UTF-8")
    return frame.with_columns(faults) if faults.count() else frame


def utf8(latin: str) -> str | None:
    try:
        return latin.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None


def numbered(good: int, count: int, skipped: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Row numbers of the next `count` readable rows after `good` of them, when the rows `skipped` were left out."""
    index = np.arange(good, good + count)
    ahead = np.asarray(skipped, np.int64) - 1 - np.arange(len(skipped))  # readable rows before each skipped one
    return index + 1 + np.searchsorted(ahead, index, side="right")


def faulty(faults: list[tuple[int, str]]) -> pl.DataFrame:
    rows = [(line - 1, why) for line, why in faults]
    return pl.DataFrame(rows, schema={"row": pl.Int64, "fault": pl.String}, orient="row")


def jsonl_frames(file: Path, lines: int, wanted: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """Values as text, lists joined by `|`; nested objects give columns `outer.inner`."""
    row = 1
    with file.open("rb") as stream:
        while block := next_lines(stream, lines):
            objects = [parsed(line) for line in block]
            names = dict.fromkeys(name for one in objects for name in one)
            data = {
                name: [one.get(name) for one in objects]
                for name in names
                if wanted is None or name in (*wanted, "fault")
            }
            numbers = pl.Series("row", range(row, row + len(block)), pl.Int64)
            yield pl.DataFrame([numbers, *(pl.Series(name, values, pl.String) for name, values in data.items())])
            row += len(block)


def next_lines(stream: BinaryIO, lines: int) -> list[bytes]:
    """At most so many, and about `LINES_BYTES`."""
    block: list[bytes] = []
    size = 0
    for line in islice(stream, lines):
        block.append(line)
        size += len(line)
        if size >= LINES_BYTES:
            break
    return block


def parsed(line: bytes) -> dict[str, str | None]:
    """One line as flat text values."""
    try:
        found = orjson.loads(line) if len(line) <= MAX_LINE else None
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        return {"fault": "not a JSON object"}
    flat: dict[str, str | None] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": as_text(deep) for inner, deep in value.items()})
        else:
            flat[name] = as_text(value)
    flat.pop("fault", None)
    return flat


def as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return "|".join(str(one) for one in value)
    return orjson.dumps(value).decode()
