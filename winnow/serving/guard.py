"""What both faces ask before they serve anything, and what they are told.

Knows neither HTTP nor gRPC, nor how callers are recognised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from winnow.errors import WinnowError, status_of
from winnow.serving.principal import NOBODY, Principal

AUTHORIZATION, API_KEY = "authorization", "x-api-key"
NETWORK_BITS = 64  # of an IPv6 address: whoever has one address has its whole network


@dataclass(frozen=True, slots=True)
class Budget:
    """A caller's bucket after one try: its size, the whole tokens left, and seconds until it is full, and until a
    refused try may be repeated."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_s: float = 0.0

    def headers(self) -> list[tuple[str, str]]:
        """The fields of the IETF's draft on rate limits; whole seconds, rounded up."""
        fields = [
            ("ratelimit-limit", str(self.limit)),
            ("ratelimit-remaining", str(self.remaining)),
            ("ratelimit-reset", str(math.ceil(self.reset_s))),
        ]
        return fields if self.allowed else [*fields, ("retry-after", str(max(1, math.ceil(self.retry_s))))]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to be recognised by: every value of the two headers, and the address it came from."""

    authorization: Sequence[str] = ()
    api_keys: Sequence[str] = ()
    address: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who asks, what is left to them (None: nobody counts), and why they are refused, if they are. `unasked`: a probe, let
    in by whoever it comes from, uncounted."""

    principal: Principal = NOBODY
    budget: Budget | None = None
    refusal: WinnowError | None = None
    unasked: bool = False

    @property
    def outcome(self) -> str:
        """For the count of who was let in: by what they were known, or why they were not."""
        return status_of(self.refusal).slug if self.refusal else self.principal.kind


class Guard(Protocol):
    """Decides on every request. `what` is `METHOD /path/{template}` of a route or `/package.Service/Method` of an RPC."""

    async def admit(self, what: str, credentials: Credentials) -> Admission:
        """Raises nothing that the caller could cause."""
        ...


def network_of(address: str) -> str:
    """The client that an address stands for: the address, or of IPv6 its network."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:  # a Unix socket, or a test's client
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(IPv6Address(int(ip) >> NETWORK_BITS << NETWORK_BITS))
    return str(ip)
