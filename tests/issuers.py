"""An issuer of tokens for tests: its keys, its key set, and tokens right or wrong in one respect."""

import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.gateway.key_set import KeySet, parse
from winnow.errors import Unavailable
from winnow.serving.principal import SCOPES

ISSUER, AUDIENCE = "https://issuer.example", "winnow"


@cache
def rsa_key(number: int = 0, bits: int = 2_048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


@cache
def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    """The public half, as an issuer shows it."""
    algorithm: Any = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


def claims(**other: Any) -> dict[str, Any]:
    """Everything right, but for `other`; None leaves a claim out."""
    now = int(time.time())
    right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "iat": now, "nbf": now, "exp": now + 600}
    return {name: value for name, value in {**right, "scope": " ".join(SCOPES), **other}.items() if value is not None}


def token(kid: str = "r0", algorithm: str = "RS256", key: Any = None, headers: Any = None, **other: Any) -> str:
    key = key or (rsa_key() if algorithm == "RS256" else ec_key())
    return jwt.encode(claims(**other), key, algorithm, headers={"kid": kid, **(headers or {})})


def key_document(*rows: dict[str, Any]) -> bytes:
    return orjson.dumps({"keys": rows or (jwk(rsa_key(), "r0"), jwk(ec_key(), "e0"))})


@dataclass
class Shown:
    """A source of keys of ten lines: shows what it is told to, counts who asks, may be away."""

    content: bytes = field(default_factory=key_document)
    away: bool = False
    asked: int = 0

    async def read(self) -> bytes:
        self.asked += 1
        if self.away:
            raise Unavailable("the issuer is away")
        return self.content

    def changed(self) -> bool:
        return False


def key_set(shown: Shown | None = None, again_s: float = 0.0) -> KeySet:
    """A key set that has read its source once."""
    made = KeySet(shown or Shown(), 300, again_s)
    made.use(parse((shown or Shown()).content))
    return made
