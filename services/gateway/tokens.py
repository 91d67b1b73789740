"""Bearer tokens: JWTs (RFC 7519) that one issuer signs with RS256 or ES256 for one audience.

A token chooses nothing: neither its algorithm beyond these two, nor where its key is found. What is verified once is
remembered by its hash until it expires, or until the issuer's keys change.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt
import orjson
from jwt.utils import base64url_decode

from services.gateway.key_set import ALGORITHMS, MAX_KID, KeySet
from winnow.errors import Unauthenticated
from winnow.serving.guard import AUTHORIZATION
from winnow.serving.principal import SCOPES, Principal, Scope

MAX_BYTES = 8 * 2**10  # of a token, before anything in it is looked at
MAX_REMEMBERED = 10_000
MAX_SUBJECT = 256
FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
TYPES = ("jwt", "at+jwt", "application/at+jwt")
OWN_KEYS = ("jwk", "jku", "x5u", "x5c")  # a token that brings, or says where to find, a key of its own
REQUIRED = ["exp", "iss", "aud", "sub"]

WORDS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is of another issuer",
    jwt.MissingRequiredClaimError: "the token lacks one of exp, iss, aud and sub",
}
"""What its bearer is told of a token whose signature is right. Everything else is just not valid."""
NOT_VALID = "the token is not valid"
MALFORMED = (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""What parsing something hostile may raise: a token is refused for it, never a request failed."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What every token must say."""

    issuer: str
    audience: str
    leeway_s: float


@dataclass(frozen=True, slots=True)
class Remembered:
    caller: Principal
    until: float  # seconds since 1970
    version: int  # of the keys


class Tokens:
    """The bearers of one issuer's tokens."""

    def __init__(self, keys: KeySet, expected: Expected) -> None:
        self._keys = keys
        self._expected = expected
        self._remembered: OrderedDict[bytes, Remembered] = OrderedDict()

    async def find(self, token: str) -> Principal:
        """The bearer. Unauthenticated says why not; Unavailable where no key has ever been seen."""
        if len(token) > MAX_BYTES or not FORM.fullmatch(token):
            raise refused(NOT_VALID)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(digest)
        if known is not None and known.version == self._keys.version and time.time() < known.until:
            return known.caller
        caller, until = await self._verified(token)
        self._remember(digest, Remembered(caller, until, self._keys.version))
        return caller

    async def _verified(self, token: str) -> tuple[Principal, float]:
        kid, algorithm = header_of(token)
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise refused(NOT_VALID)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._expected.issuer,
                audience=self._expected.audience,
                leeway=self._expected.leeway_s,
                options={"require": REQUIRED},
            )
            return bearer_of(claims), float(claims["exp"])
        except MALFORMED as wrong:
            raise refused(WORDS.get(type(wrong), NOT_VALID)) from None

    def _remember(self, digest: bytes, entry: Remembered) -> None:
        self._remembered[digest] = entry
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def header_of(token: str) -> tuple[str, str]:
    """Key id and algorithm, of a header that asks for nothing unusual."""
    try:
        header = orjson.loads(base64url_decode(token.partition(".")[0]))
        kid, algorithm, kind = header["kid"], header["alg"], header.get("typ", "JWT")
        plain = "crit" not in header and not any(name in header for name in OWN_KEYS)
        usual = isinstance(kid, str) and 0 < len(kid) <= MAX_KID and kind.lower() in TYPES
    except MALFORMED:
        raise refused(NOT_VALID) from None
    if not (plain and usual and algorithm in ALGORITHMS.values()):
        raise refused(NOT_VALID)
    return kid, algorithm


def bearer_of(claims: dict[str, Any]) -> Principal:
    subject, issuer = claims["sub"], claims["iss"]
    if not (isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT and subject.isprintable()):
        raise ValueError("subject")
    return Principal(subject, "token", scopes_of(claims), issuer)


def scopes_of(claims: dict[str, Any]) -> frozenset[Scope]:
    """Those of `scope` (RFC 8693: words separated by blanks; some issuers send a list), or else of `scp`. Scopes of other
    applications are none of ours."""
    said = claims.get("scope", claims.get("scp", ""))
    words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
    return frozenset(scope for scope in SCOPES if scope in words)


def refused(words: str) -> Unauthenticated:
    return Unauthenticated(words, field=AUTHORIZATION)
