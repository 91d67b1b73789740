"""`winnow keys`: the API keys of a gateway. A key is shown once, when it is made; the file keeps its hash.

A gateway that has the file (WINNOW_API_KEYS_FILE) takes a change up within seconds. Who made or revoked one is in the audit
log of the home; the key and its hash are not.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.audited import audited
from cli.console import note, show, table
from cli.homes import AsJson, Data, HomeOption, home_of
from cli.whole_file import replaced
from services.gateway.api_keys import MAX_FILE_BYTES, ApiKey, KeyFile, create, parse
from services.gateway.watched import Watched
from winnow.errors import InvalidArgument, NotFound
from winnow.serving.principal import SCOPES, Scope

LIFE = re.compile(r"([1-9][0-9]{0,4})([dh])")
UNITS = {"d": "days", "h": "hours"}
ID = re.compile("[a-z0-9][a-z0-9-]{0,39}")

app = typer.Typer(help="Make, list and revoke the API keys of a gateway.", no_args_is_help=True)

File = Annotated[
    Path, typer.Option("--file", help="The file of hashed keys.", envvar="WINNOW_API_KEYS_FILE", dir_okay=False)
]
Id = Annotated[str, typer.Argument(help="Names the key: small letters, digits, hyphens.")]
Scopes = Annotated[str, typer.Option("--scopes", help=f"What it may do, by commas: {', '.join(SCOPES)}.")]
Life = Annotated[str, typer.Option("--expires", help="For how long, for example 90d or 12h; without it, for ever.")]


@app.command("create")
def make(
    id: Id, scopes: Scopes, file: File, expires: Life = "", data: Data = "ml-100k", home: HomeOption = None
) -> None:
    """Make a key and print it, once: nobody can show it again."""
    if not ID.fullmatch(id):
        raise InvalidArgument("small letters, digits and hyphens, at most 40", field="id")
    key, row = create(id, scopes_of(scopes), expiry_of(expires))

    def added(rows: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        if any(known.id == id for known in rows):
            raise InvalidArgument(f"there is a key {id}; revoke it first", field="id")
        return (*rows, row)

    expires_at = row.expires_at.isoformat() if row.expires_at else None
    with audited(home_of(data, home), "key.create", id=id, scopes=list(row.scopes), expires_at=expires_at):
        change(file, added)
    note(f"{id}: {', '.join(row.scopes)}; {until(row)}. This is the only time it is shown:")
    print(key)


@app.command("list")
def listed(file: File, as_json: AsJson = False) -> None:
    """Which keys there are, what they may do, and until when."""
    must_be_there(file)
    rows = held(file)
    shown = table("API keys", "id", "scopes", "made", "until")
    for key in rows:
        shown.add_row(key.id, " ".join(key.scopes), f"{key.created_at or ''}", until(key))
    show([key.model_dump(mode="json", exclude={"sha256"}) for key in rows], shown, as_json)


@app.command("revoke")
def revoke(id: Id, file: File, data: Data = "ml-100k", home: HomeOption = None) -> None:
    """Take a key away; gateways refuse it within seconds."""
    if not ID.fullmatch(id):  # else anything, also a key given by mistake, would be recorded
        raise InvalidArgument("small letters, digits and hyphens, at most 40", field="id")
    must_be_there(file)

    def without(rows: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        gone = [key for key in rows if key.id == id]
        if not gone:
            raise NotFound(f"no key {id} in {file}", field="id")
        act.told["scopes"] = list(gone[0].scopes)
        return tuple(key for key in rows if key.id != id)

    with audited(home_of(data, home), "key.revoke", id=id) as act:
        change(file, without)
    note(f"{id} is revoked")


def scopes_of(words: str) -> tuple[Scope, ...]:
    wanted = {word.strip() for word in words.split(",") if word.strip()}
    if unknown := wanted - set(SCOPES):
        raise InvalidArgument(f"{', '.join(sorted(unknown))}: the scopes are {', '.join(SCOPES)}", field="--scopes")
    if not wanted:
        raise InvalidArgument(f"name at least one of {', '.join(SCOPES)}", field="--scopes")
    return tuple(scope for scope in SCOPES if scope in wanted)


def expiry_of(life: str) -> datetime | None:
    if not life:
        return None
    form = LIFE.fullmatch(life)
    if form is None:
        raise InvalidArgument("give days or hours, for example 90d or 12h", field="--expires")
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**{UNITS[form[2]]: int(form[1])})


def until(key: ApiKey) -> str:
    if key.expires_at is None:
        return "for ever"
    return f"{'expired' if key.expired() else 'until'} {key.expires_at:%Y-%m-%d %H:%M} UTC"


def must_be_there(file: Path) -> None:
    if not file.exists():
        raise NotFound(f"no file {file}; winnow keys create makes one", field="--file")


def held(file: Path) -> tuple[ApiKey, ...]:
    """The keys of a file; none where there is no file yet."""
    return parse(Watched(file, MAX_FILE_BYTES).read(), str(file)).keys if file.exists() else ()


def change(file: Path, edit: Callable[[tuple[ApiKey, ...]], tuple[ApiKey, ...]]) -> None:
    """Write what `edit` makes of the keys, whole or not at all, for the owner's eyes; one writer at a time."""
    with locked(file):
        content = KeyFile(keys=edit(held(file))).model_dump_json(indent=1)
        replaced(file, content + "\n", mode=0o600)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    handle = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
