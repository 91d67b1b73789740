"""The keys that an issuer signs tokens with (a JWKS, RFC 7517): from its address or from a file, and through rotations.

A key id that is not known asks again, at a bounded rate and one at a time. Keys that were good stay good while the issuer is
away: only a new set that can be read replaces them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.gateway.watched import Watched
from winnow.errors import FailedPrecondition, Unavailable, WinnowError
from winnow.serving.telemetry import KEY_SETS

ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""The algorithm of a kind of key; no other is taken, whatever a token says."""
RSA_BITS = range(2_048, 8_193)  # smaller ones are broken, larger ones take milliseconds
MAX_BYTES = 256 * 2**10
MAX_KEYS = 100
MAX_KID = 256
FETCH_S = 3.0
AGAIN_S = 10.0  # at the soonest, whoever asks
LOOK_S = 2.0

log = logging.getLogger(__name__)

Key = RSAPublicKey | EllipticCurvePublicKey
Keys = Mapping[tuple[str, str], Key]
"""By key id and algorithm: a key verifies what it was made for and nothing else."""


class Source(Protocol):
    """Where a key set comes from. Raises a WinnowError whose words may be logged."""

    async def read(self) -> bytes: ...

    def changed(self) -> bool:
        """Whether there is certainly something new."""
        ...


class KeySet:
    def __init__(self, source: Source, every_s: float, again_s: float = AGAIN_S) -> None:
        self._source = source
        self._every_s = every_s
        self._again_s = again_s
        self._keys: Keys = {}
        self._loaded = False
        self._asked_at = -again_s - every_s
        self._asking: asyncio.Task[None] | None = None
        self.version = 0  # rises when the keys change: what was verified with others is verified again

    async def find(self, kid: str, algorithm: str) -> Key | None:
        """The key, looked for at the issuer where it is new; Unavailable before any set has been read."""
        if (key := self._keys.get((kid, algorithm))) is not None:
            return key
        await self.ask()
        if not self._loaded:
            raise Unavailable("the keys that tokens are signed with are not known yet")
        return self._keys.get((kid, algorithm))

    async def ask(self) -> None:
        """Read the set again, unless that was done a moment ago; whoever comes meanwhile waits for the same reading."""
        if self._asking is None:
            if time.monotonic() - self._asked_at < self._again_s:
                return
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self.load(), name="key-set")
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    async def follow(self) -> None:
        """Keep the set fresh, for ever."""
        while True:
            if self._source.changed():
                await self.load()
            elif time.monotonic() - self._asked_at >= (self._every_s if self._loaded else self._again_s):
                await self.ask()
            await asyncio.sleep(min(LOOK_S, self._every_s))

    async def load(self) -> None:
        """Read the set now; one that cannot be had changes nothing."""
        try:
            self.use(parse(await self._source.read()))
            outcome = "taken"
        except WinnowError as wrong:
            log.warning("verification keys stay as they were: %s", wrong.detail)
            outcome = "refused"
        KEY_SETS.labels(source="jwks", outcome=outcome).inc()

    def use(self, keys: Keys) -> None:
        if keys != self._keys:
            log.info("%d verification keys", len(keys))
            self.version += 1
        self._keys, self._loaded = keys, True

    def _asked(self, done: asyncio.Task[None]) -> None:
        self._asking = None
        if not done.cancelled() and (bug := done.exception()):
            log.error("reading verification keys failed", exc_info=bug)


@dataclass(frozen=True, slots=True)
class FromUrl:
    """An issuer's address. Redirects are not followed, and proxies of the environment are not asked."""

    url: str
    fetch_s: float = FETCH_S

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout(self.fetch_s):
                return await self._fetched()
        except TimeoutError as late:
            raise Unavailable(f"the issuer did not answer within {self.fetch_s:g} s") from late
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as away:  # OSError: the system's authorities cannot be read
            raise Unavailable(f"the issuer: {type(away).__name__}") from away

    def changed(self) -> bool:
        return False

    async def _fetched(self) -> bytes:
        content = bytearray()
        headers = {"accept": "application/json", "accept-encoding": "identity"}  # nothing to inflate
        client = httpx.AsyncClient(timeout=self.fetch_s, trust_env=False, verify=httpx.create_ssl_context())
        async with client, client.stream("GET", self.url, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK or "content-encoding" in answer.headers:
                raise Unavailable(f"the issuer answered {answer.status_code}")
            async for part in answer.aiter_raw(16_384):
                content += part
                if len(content) > MAX_BYTES:
                    raise Unavailable(f"the issuer sent more than {MAX_BYTES} bytes")
        return bytes(content)


class FromFile:
    def __init__(self, path: str) -> None:
        self._watched = Watched(Path(path), MAX_BYTES)

    async def read(self) -> bytes:
        return self.now()

    def now(self) -> bytes:
        return self._watched.read()

    def changed(self) -> bool:
        return self._watched.changed()


def parse(content: bytes) -> Keys:
    """The keys of a set that can verify RS256 or ES256. Others are left out; FailedPrecondition where none remains."""
    try:
        listed = orjson.loads(content)["keys"]
    except (ValueError, KeyError, TypeError):
        raise FailedPrecondition("not a JSON Web Key Set") from None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise FailedPrecondition(f"not a JSON Web Key Set of at most {MAX_KEYS} keys")
    found = [one for row in listed if (one := key_of(row)) is not None]
    if not found:
        raise FailedPrecondition("the JSON Web Key Set has no key for RS256 or ES256 with a kid")
    return dict(reversed(found))  # of two with one name the first counts


def key_of(row: Any) -> tuple[tuple[str, str], Key] | None:
    """A key with its id and algorithm; None for one that is not to verify our tokens with, a private one that got out among
    them."""
    if not isinstance(row, dict) or not verifies(row):
        return None
    kid, algorithm = row["kid"], ALGORITHMS[row["kty"]]
    try:
        key = jwt.PyJWK(row, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size in RSA_BITS:
        return (kid, algorithm), key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return (kid, algorithm), key
    return None


def verifies(row: Mapping[str, Any]) -> bool:
    """What the set says of a key: its name, its kind and its use."""
    kid, kind = row.get("kid"), row.get("kty")
    if not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID and isinstance(kind, str) and kind in ALGORITHMS):
        return False
    operations = row.get("key_ops", ["verify"])
    return (
        row.get("alg", ALGORITHMS[kind]) == ALGORITHMS[kind]
        and row.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )
