"""The files of a log, and how they are read: a folder of segments, each named after the position of its first row.

`import-<position>.parquet` holds rows taken in bulk, `live-<position>.log` rows taken one call at a time. Positions
are dense: a segment starts where the one before it ends. A live segment is a header and frames; a frame is what one
fsync made durable:

    segment  = "WINNOW1\\n" | first position u64
    frame    = "WFR\\n" | bytes of payload u32 | crc32 of the rest u32 | first position u64 | rows u32 | payload
    payload  = a JSON array of rows (`winnow.canonical`), times as microseconds since 1970, bytes in base64

A frame that does not check out at the very end of the last segment is torn: it was never acknowledged, and readers
end before it. Anywhere else it is damage, and is reported with its place.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.errors import FailedPrecondition

MAGIC = b"WINNOW1\n"
HEADER = struct.Struct("<8sQ")
FRAME_MAGIC = b"WFR\n"
FRAME = struct.Struct("<4sIIQI")
MAX_FRAME_BYTES = 64 * 2**20
READ_ROWS = 50_000  # rows of one table that `read` yields
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: rows `first` … `last` of the log (none when last < first). `end` is where its sound bytes end."""

    path: Path
    first: int
    last: int
    end: int

    @property
    def live(self) -> bool:
        return self.path.suffix == ".log"


class Damaged(FailedPrecondition):
    """A log that lost or changed acknowledged bytes; nothing is guessed, a person must look."""


def segment_path(folder: Path, kind: str, first: int) -> Path:
    suffix = "parquet" if kind == "import" else "log"
    return folder / f"{kind}-{first:020d}.{suffix}"


def segments(folder: Path) -> list[Segment]:
    """Segments in the order of their positions; Damaged when a position is missing or given twice."""
    files = [*folder.glob("import-*.parquet"), *folder.glob("live-*.log")]
    files.sort(key=lambda path: (path.stem.partition("-")[2], path.suffix))
    found: list[Segment] = []
    for n, path in enumerate(files):
        first = found[-1].last + 1 if found else 1
        segment = scan(path, last=n == len(files) - 1) if path.suffix == ".log" else measure(path)
        if segment.first != first:
            raise Damaged(f"{path.name}: the log goes on at position {first}, this segment starts at {segment.first}")
        found.append(segment)
    return found


def measure(path: Path) -> Segment:
    """A Parquet segment by its footer."""
    first = int(path.stem.partition("-")[2])
    try:
        rows = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowInvalid) as wrong:
        raise Damaged(f"{path.name}: cannot be read as Parquet: {wrong}") from wrong
    return Segment(path, first, first + rows - 1, path.stat().st_size)


def scan(path: Path, *, last: bool) -> Segment:
    """Check every frame of a live segment. `last`: its end may be torn."""
    content = path.read_bytes()
    first = int(path.stem.partition("-")[2])
    if len(content) < HEADER.size and last:
        return Segment(path, first, first - 1, 0)
    if len(content) < HEADER.size or HEADER.unpack_from(content) != (MAGIC, first):
        raise Damaged(f"{path.name}: its header is damaged")
    position, end = first, HEADER.size
    while frame := frame_at(content, end):
        if frame.first != position:
            raise Damaged(f"{path.name}: byte {end} holds position {frame.first}, expected {position}")
        position, end = position + frame.rows, frame.end
    if end < len(content) and not (last and torn(content, end)):
        raise Damaged(f"{path.name}: damaged at byte {end}, position {position}; later records are intact")
    return Segment(path, first, position - 1, end)


@dataclass(frozen=True, slots=True)
class Frame:
    first: int
    rows: int
    payload: bytes
    end: int  # byte after it


def frame_at(content: bytes, start: int) -> Frame | None:
    """The sound frame that starts at byte `start`, or None."""
    if start + FRAME.size > len(content):
        return None
    magic, size, crc, first, rows = FRAME.unpack_from(content, start)
    end = start + FRAME.size + size
    if magic != FRAME_MAGIC or size > MAX_FRAME_BYTES or end > len(content):
        return None
    payload = content[start + FRAME.size : end]
    return Frame(first, rows, payload, end) if crc == checksum(first, rows, payload) else None


def torn(content: bytes, start: int) -> bool:
    """Whether no sound frame follows the broken one at `start`."""
    place = content.find(FRAME_MAGIC, start + 1)
    while place >= 0:
        if frame_at(content, place):
            return False
        place = content.find(FRAME_MAGIC, place + 1)
    return True


def checksum(first: int, rows: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<QI", first, rows)))


def framed(first: int, payloads: Sequence[bytes], rows: int) -> bytes:
    """One frame of many calls' rows; each payload is the inside of a JSON array."""
    payload = b"[" + b",".join(payloads) + b"]"
    return FRAME.pack(FRAME_MAGIC, len(payload), checksum(first, rows, payload), first, rows) + payload


# ---------------------------------------------------------------------------------------------- rows


def encode(rows: Iterable[Row]) -> bytes:
    """Rows as the inside of a JSON array."""
    plain = [{k: micros(v) if isinstance(v, datetime) else v for k, v in row.items() if v is not None} for row in rows]
    return orjson.dumps(plain, default=text_of)[1:-1]


def text_of(value: object) -> str:
    """What JSON has no word for: bytes, in base64."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is no value of a row")


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def table_of(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Rows read back; columns that a newer release added are ignored, ones it lacks are null."""
    maps = [field.name for field in schema if pa.types.is_map(field.type)]
    binaries = [field.name for field in schema if pa.types.is_large_binary(field.type)]
    for row in rows:
        for name in binaries:
            if row.get(name) is not None:
                row[name] = b64decode(row[name])  # type: ignore[index]
        for name in maps:
            if row.get(name) is not None:
                row[name] = [tuple(pair) for pair in row[name]]  # type: ignore[index]
    return pa.Table.from_pylist(rows, schema=schema)


def read(folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a log in order of position (1, 2, …), in tables of bounded size."""
    for segment in segments(folder):
        yield from read_live(segment, schema, columns) if segment.live else read_import(segment, columns)


def read_import(segment: Segment, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    with pq.ParquetFile(segment.path) as file:
        for batch in file.iter_batches(READ_ROWS, columns=list(columns) if columns else None):
            yield pa.Table.from_batches([batch])


def read_live(segment: Segment, schema: pa.Schema, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    content = segment.path.read_bytes()[: segment.end]
    rows: list[Row] = []
    end = HEADER.size
    while frame := frame_at(content, end):
        rows.extend(orjson.loads(frame.payload))
        end = frame.end
        if len(rows) >= READ_ROWS:
            yield chosen(table_of(rows, schema), columns)
            rows = []
    if rows:
        yield chosen(table_of(rows, schema), columns)


def chosen(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    return table.select(list(columns)) if columns else table


def parts(folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The log in tables of bounded size, each with exactly these columns in their order."""
    wanted = pa.schema([schema.field(name) for name in columns]) if columns else schema
    return (completed(table, wanted).cast(wanted) for table in read(folder, schema, columns))


def whole(folder: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """The log as one table; empty where there is none."""
    wanted = pa.schema([schema.field(name) for name in columns]) if columns else schema
    tables = list(parts(folder, schema, columns))
    return pa.concat_tables(tables) if tables else wanted.empty_table()


def completed(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """These columns in their order; one that an older release did not write is null."""
    for field in wanted:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(wanted.names)
