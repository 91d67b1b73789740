"""Looks up one version in MLflow's SQLite file without MLflow, whose import costs seconds in every serving process.

Reads only. A file of another layout than the one known here is not guessed at: `Unfamiliar`, and MLflow is asked.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

WORKSPACE = "default"  # the one that a client without a workspace sees
DELETED = "Deleted_Internal"  # what MLflow leaves of a deleted version

COLUMNS = """
SELECT v.version, v.source, t.value FROM model_versions v
LEFT JOIN model_version_tags t
  ON t.workspace = v.workspace AND t.name = v.name AND t.version = v.version AND t.key = :tag
"""
BY_ALIAS = f"""{COLUMNS}
JOIN registered_model_aliases a ON a.workspace = v.workspace AND a.name = v.name AND a.version = v.version
WHERE v.workspace = :workspace AND v.name = :name AND v.current_stage != :deleted AND a.alias = :wanted
"""
BY_NUMBER = f"""{COLUMNS}
WHERE v.workspace = :workspace AND v.name = :name AND v.current_stage != :deleted AND v.version = :wanted
"""


class Unfamiliar(Exception):
    """The file is no registry of the layout known here."""


@dataclass(frozen=True, slots=True)
class Row:
    """A version's number, where its files are (an artifact URI), and the value of the asked tag ("": none)."""

    number: str
    source: str
    tag: str


def by_alias(database: Path, name: str, alias: str, tag: str, wait_s: float) -> Row | None:
    """The version that the alias of the registered model points at. Raises sqlite3.Error, Unfamiliar."""
    return _row(database, BY_ALIAS, name, alias, tag, wait_s)


def by_number(database: Path, name: str, number: str, tag: str, wait_s: float) -> Row | None:
    """The version of this number. Raises sqlite3.Error, Unfamiliar."""
    return _row(database, BY_NUMBER, name, number, tag, wait_s)


def _row(database: Path, query: str, name: str, wanted: str, tag: str, wait_s: float) -> Row | None:
    values = {"workspace": WORKSPACE, "name": name, "deleted": DELETED, "wanted": wanted, "tag": tag}
    with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=wait_s)) as connection:
        try:
            found = connection.execute(query, values).fetchone()
        except sqlite3.OperationalError as error:
            if str(error).startswith("no such"):
                raise Unfamiliar(str(error)) from error
            raise
    return None if found is None else Row(str(found[0]), str(found[1]), str(found[2] or ""))
