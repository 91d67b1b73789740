"""API keys: only their hashes are kept. `winnow keys` writes the file, the gateway reads it again when it changes.

A key is `winnow_ID_SECRET`, 256 random bits behind a name that finds its row; a plain SHA-256 is enough for what nobody
can guess. Nothing here ever holds a key for longer than a call.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.gateway.watched import Watched
from winnow.errors import FailedPrecondition, Unauthenticated, WinnowError
from winnow.serving.guard import API_KEY
from winnow.serving.principal import Principal, Scope
from winnow.serving.telemetry import KEY_SETS

SECRET_BYTES = 32
MAX_KEYS = 10_000
MAX_FILE_BYTES = 8 * 2**20
LOOK_S = 2.0
KEY = re.compile(r"winnow_([a-z0-9][a-z0-9-]{0,39})_([0-9a-f]{64})")
NOBODYS = hashlib.sha256(b"").digest()

log = logging.getLogger(__name__)

KeyId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class ApiKey(BaseModel):
    """One row of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: KeyId
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", repr=False)]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None

    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


class KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: tuple[ApiKey, ...] = Field((), max_length=MAX_KEYS)


def parse(content: bytes | str, source: str) -> KeyFile:
    """FailedPrecondition names the source and the first thing that is wrong, never a value."""
    try:
        found = KeyFile.model_validate_json(content)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise FailedPrecondition(f"{source}: {f'{place}: ' + first['msg'] if place else 'not JSON'}") from None
    ids = [key.id for key in found.keys]
    if len(set(ids)) < len(ids):
        raise FailedPrecondition(f"{source}: an id is there twice")
    return found


def create(id: str, scopes: tuple[Scope, ...], expires_at: datetime | None) -> tuple[str, ApiKey]:
    """A new key, to be shown once, and the row that is kept."""
    key = f"winnow_{id}_{secrets.token_hex(SECRET_BYTES)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    now = datetime.now(UTC).replace(microsecond=0)
    return key, ApiKey(id=id, sha256=digest, scopes=scopes, created_at=now, expires_at=expires_at)


class ApiKeys:
    """The keys that are taken now."""

    def __init__(self, content: str = "", file: str = "") -> None:
        self._watched = Watched(Path(file), MAX_FILE_BYTES) if file else None
        self._use(parse(content, "WINNOW_API_KEYS") if self._watched is None else self._read())

    def find(self, text: str) -> Principal:
        """Whose key this is. Takes as long for an id that does not exist as for a wrong secret."""
        form = KEY.fullmatch(text)
        known = self._rows.get(form[1]) if form else None
        kept, caller, expires = known or (NOBODYS, None, 0.0)
        right = hmac.compare_digest(hashlib.sha256(text.encode(errors="replace")).digest(), kept)
        if not right or caller is None:
            raise Unauthenticated("the API key is not valid", field=API_KEY)
        if expires <= time.time():
            raise Unauthenticated("the API key has expired", field=API_KEY)
        return caller

    async def follow(self) -> None:
        """Take up changes of the file, for ever."""
        while self._watched is not None:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take up a change of the file now. One that cannot be read changes nothing."""
        if self._watched is None or not self._watched.changed():
            return
        try:
            self._use(self._read())
            outcome = "taken"
        except WinnowError as wrong:
            log.warning("API keys stay as they were: %s", wrong.detail)
            outcome = "refused"
        KEY_SETS.labels(source="api_keys", outcome=outcome).inc()

    def _read(self) -> KeyFile:
        assert self._watched is not None
        try:
            return parse(self._watched.read(), "WINNOW_API_KEYS_FILE")
        except WinnowError as wrong:
            told = wrong.detail
            raise FailedPrecondition(told if told.startswith("WINNOW") else f"WINNOW_API_KEYS_FILE: {told}") from wrong

    def _use(self, file: KeyFile) -> None:
        self._rows = {
            key.id: (
                bytes.fromhex(key.sha256),
                Principal(key.id, "key", frozenset(key.scopes)),
                key.expires_at.timestamp() if key.expires_at else float("inf"),
            )
            for key in file.keys
        }
