"""Whose answer it was, without saying who: HMAC-SHA256 of the id under a key that lies in a file of its own.

The same person has the same pseudonym in every process that reads the same file, so an auditor who has the key and an id
finds all of that person's records; one who has only the log finds nobody. Without the key no link is left: deleting it
drops those of everybody, a new one ends the old ones from then on (every record says which key it used).
"""

from __future__ import annotations

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from winnow.errors import FailedPrecondition
from winnow.types import Person

KEY_BYTES = 32
SHOWN = 32  # hex digits of a pseudonym: 128 bits
NAMED = 8  # hex digits that tell one key from another


class Pseudonyms:
    """One key. `name` says which, and nothing about it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.name = sha256(b"winnow audit key\0" + key).hexdigest()[:NAMED]

    def of(self, person: Person) -> str:
        """The user's where one is known, else the session's; "" for nobody in particular."""
        if person.user_id:
            return self._digest(b"user\0", person.user_id)
        return self._digest(b"session\0", person.session_id)

    def _digest(self, kind: bytes, own: str) -> str:
        return hmac.digest(self._key, kind + own.encode("utf-8", "surrogatepass"), sha256).hex()[:SHOWN]


def pseudonyms(file: Path) -> Pseudonyms:
    """Those of the key in `file`, which is made where there is none. FailedPrecondition: it can be neither read nor made."""
    try:
        if not file.exists():
            make(file)
        key = bytes.fromhex(file.read_text("ascii").strip())
    except OSError as wrong:
        raise FailedPrecondition(f"the key {file} cannot be read: {wrong.strerror}") from wrong
    except ValueError as wrong:
        raise FailedPrecondition(f"{file} holds no key of {KEY_BYTES} bytes in hex") from wrong
    if len(key) != KEY_BYTES:
        raise FailedPrecondition(f"{file} holds no key of {KEY_BYTES} bytes in hex")
    return Pseudonyms(key)


def make(file: Path) -> None:
    """A new key, readable by us alone, whole or not at all; another process's wins if it is first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(beside, file)
    except FileExistsError:
        pass
    finally:
        beside.unlink()
