"""Which files of the audit log are old enough to go. What goes is said in a record first, so that a check knows where each
chain begins since then, and after which hash. The newest file of a chain always stays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from winnow.audit.folder import last_line, segments
from winnow.audit.record import Read, read
from winnow.audit.verify import chains_in


@dataclass(frozen=True, slots=True)
class Old:
    """The oldest files of one chain, and the last record in them."""

    files: tuple[Path, ...]
    last: Read


def old_files(root: Path, before: datetime) -> list[Old]:
    """NoRecord where a file's last line is none as it was written: verify before anything goes."""
    found = []
    for folder in chains_in(root):
        files, last = [], None
        for path in segments(folder)[:-1]:
            record = read(last_line(path)[0] or b"")
            if datetime.fromisoformat(record.body["at"]) >= before:
                break
            files.append(path)
            last = record
        if last is not None:
            found.append(Old(tuple(files), last))
    return found
