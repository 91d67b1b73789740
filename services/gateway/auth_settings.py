"""Settings of who is let in and how often, read once from the environment (`WINNOW_AUTH`, …).

Either all of it is configured or none: half a lock is refused at the start, by the name of what is missing.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from winnow.errors import FailedPrecondition
from winnow.serving.limits import Limits

RATE_PER_S, ADDRESS_RATE_PER_S = 1_000.0, 50.0  # where authentication is on


class AuthSettings(BaseSettings):
    """Authentication, rate limits, and what one connection may take."""

    auth: Literal["off", "on"] = Field("off", description="on: nobody is served who is not recognised")
    jwks_url: str = Field("", description="where the issuer shows its keys (https, or http on this machine)")
    jwks_file: str = Field("", description="or a file with them, read again when it changes")
    jwks_every_s: float = Field(300.0, ge=1, le=86_400, description="how often they are fetched")
    jwt_issuer: str = Field("", description="`iss` that every token must have")
    jwt_audience: str = Field("", description="`aud` that every token must have or contain")
    jwt_leeway_s: float = Field(30.0, ge=0, le=300, description="how far clocks may differ")
    api_keys_file: str = Field("", description="hashed API keys, made by `winnow keys`, read again when it changes")
    api_keys: str = Field("", repr=False, description="or the content of such a file")
    rate_per_s: float | None = Field(
        None, ge=0, le=1e6, description="requests of one caller; 0: unlimited; unset: 1000 with WINNOW_AUTH=on, else 0"
    )
    rate_burst: int = Field(0, ge=0, le=10**6, description="requests at once; 0: those of two seconds")
    rate_address_per_s: float | None = Field(
        None, ge=0, le=1e6, description="requests of an address whose caller is not known; unset: 50, or 0"
    )
    rate_address_burst: int = Field(0, ge=0, le=10**6, description="the same at once; 0: those of two seconds")
    trusted_proxies: str = Field("", description="addresses whose X-Forwarded-For is believed, by commas")
    max_connections: int = Field(1_000, ge=1, le=10**6, description="open at once, of each face")
    max_header_bytes: int = Field(32 * 2**10, ge=1_024, le=2**20, description="of one request's headers")
    header_s: float = Field(10.0, gt=0, le=3_600, description="how long a request's headers may take to arrive")
    idle_s: float = Field(75.0, gt=0, le=3_600, description="how long a connection may rest between requests")

    @model_validator(mode="after")
    def all_or_nothing(self) -> Self:
        """FailedPrecondition (not a ValueError: it belongs to no single field) names what does not fit together."""
        of_tokens = ("jwks_url", "jwks_file", "jwt_issuer", "jwt_audience")
        given = [name for name in (*of_tokens, "api_keys_file", "api_keys") if getattr(self, name)]
        if self.auth == "off":
            check(not given, f"{shown(*given)}: set, but WINNOW_AUTH is off; set WINNOW_AUTH=on, or leave it out")
            return self
        keys = shown("jwks_url", "jwks_file", "api_keys_file", "api_keys")
        check(bool(given), f"WINNOW_AUTH: on needs one of {keys}")
        check(not (self.api_keys_file and self.api_keys), f"give one of {shown('api_keys_file', 'api_keys')}")
        if any(name in given for name in of_tokens):
            self._check_tokens()
        return self

    def _check_tokens(self) -> None:
        sources = shown("jwks_url", "jwks_file")
        check(bool(self.jwks_url) != bool(self.jwks_file), f"tokens need exactly one of {sources}")
        check(bool(self.jwt_issuer), "WINNOW_JWT_ISSUER: tokens of any issuer would be taken; name it")
        check(bool(self.jwt_audience), "WINNOW_JWT_AUDIENCE: tokens for anybody would be taken; name it")
        check(not self.jwks_url or may_be_trusted(self.jwks_url), "WINNOW_JWKS_URL: give an https address")

    @property
    def rates(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Requests per second, and at once, of a known caller and of an address; a rate of 0 is none."""
        on = self.auth == "on"
        known = self.rate_per_s if self.rate_per_s is not None else on * RATE_PER_S
        address = self.rate_address_per_s if self.rate_address_per_s is not None else on * ADDRESS_RATE_PER_S
        return (known, self.rate_burst or at_once(known)), (address, self.rate_address_burst or at_once(address))

    def limits(self, max_body_bytes: int, body_s: float) -> Limits:
        return Limits(
            max_body_bytes,
            self.max_header_bytes,
            self.max_connections,
            self.header_s,
            body_s,
            self.idle_s,
            self.trusted_proxies,
        )


def at_once(per_s: float) -> int:
    return max(1, round(2 * per_s))


def check(right: bool, words: str) -> None:
    if not right:
        raise FailedPrecondition(words)


def shown(*names: str) -> str:
    return ", ".join(f"WINNOW_{name.upper()}" for name in names)


def may_be_trusted(url: str) -> bool:
    """Keys that come over plain http are anybody's, except on this machine."""
    parts = urlsplit(url)
    if parts.username is not None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
