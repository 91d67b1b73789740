"""Events as Parquet files, whoever wrote them: the streaming job as they came, or a home's own log copied out.

Both have the columns `jobs.parse.EVENT_COLUMNS`, so a batch job and DuckDB read one as they read the other.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from winnow import segments
from winnow.canonical import EVENTS
from winnow.errors import FailedPrecondition
from winnow.home import check_complete, events_folder

COPIED = pa.schema(
    [
        *EVENTS,
        pa.field("log_position", pa.int64()),
        pa.field("topic", pa.string()),
        pa.field("topic_partition", pa.int32()),
        pa.field("topic_offset", pa.int64()),
    ]
)


def copied(home: Path, into: Path) -> int:
    """Write the home's event log as one Parquet file into a folder; how many rows there were. Replaces an older one.

    FailedPrecondition when there is none, or an ingestion was interrupted; `segments.Damaged` when the log is.
    """
    check_complete(home)
    if not events_folder(home).is_dir():
        raise FailedPrecondition(f"{home}: holds no event log")
    into.mkdir(parents=True, exist_ok=True)
    beside, position = into / ".events.parquet.new", 0
    with pq.ParquetWriter(beside, COPIED, compression="zstd") as file:
        for table in segments.read(events_folder(home), EVENTS):
            rows = table.select(EVENTS.names).cast(EVENTS)
            file.write_table(placed(rows, position + 1))
            position += len(rows)
    beside.replace(into / "events.parquet")
    return position


def finished(folder: Path) -> list[Path]:
    """Files whose writing has ended: what is in the making lies in folders that begin with a dot or an underscore. Those are not
    looked into, for they may go at any moment."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._"]
        files += [Path(place, name) for name in names if name[0] not in "._" and name.endswith(".parquet")]
    return sorted(files)


def placed(rows: pa.Table, first: int) -> pa.Table:
    """Rows of `EVENTS` with their positions in the log; they never were in a topic."""
    places = {
        "log_position": pa.array(range(first, first + len(rows)), pa.int64()),
        "topic": pa.nulls(len(rows), pa.string()),
        "topic_partition": pa.nulls(len(rows), pa.int32()),
        "topic_offset": pa.nulls(len(rows), pa.int64()),
    }
    columns = {name: rows[name] for name in EVENTS.names}
    return pa.table({**columns, **places}, schema=COPIED)
