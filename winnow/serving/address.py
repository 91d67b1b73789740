"""`host:port`, checked when settings are read: of a face that listens and of a peer. And why one cannot be listened on."""

from __future__ import annotations

import socket
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from winnow.errors import Unavailable
from winnow.secrets import REDIS_SCHEMES

LAST_PORT = 65_535


def checked(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) <= LAST_PORT):
        raise PydanticCustomError("address", "give host:port, for example 127.0.0.1:8080")
    try:
        host.strip("[]").encode("idna")  # as Python's resolver does
    except UnicodeError as wrong:
        raise PydanticCustomError("address", "no host can have this name") from wrong
    return address


def checked_or_none(address: str) -> str:
    return checked(address) if address else address


def redis_checked(url: str) -> str:
    """Its password is not repeated when it is wrong."""
    if url and not url.startswith(REDIS_SCHEMES):
        raise PydanticCustomError("redis", "give redis://host:port/0, or rediss://host:port/0 for TLS")
    return url


Address = Annotated[str, AfterValidator(checked)]
MaybeAddress = Annotated[str, AfterValidator(checked_or_none)]
"""Empty: there is none."""
RedisUrl = Annotated[str, AfterValidator(redis_checked)]


class CannotListen(Unavailable):
    """A face cannot be opened. `address` is the one that was asked for, so that whoever read it can name its setting."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address


def check_free(address: str) -> None:
    """CannotListen, with the system's own reason, when no face could be opened on `host:port` now. A name is free when
    one of the addresses behind it is, as gRPC has it."""
    host, _, port = address.rpartition(":")
    try:
        places = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as unknown:
        raise CannotListen(address, reason(unknown)) from unknown
    taken = [why for family, _, _, _, place in places if (why := refusal(family, place)) is not None]
    if len(taken) == len(places):
        raise CannotListen(address, reason(taken[0])) from taken[0]


def refusal(family: socket.AddressFamily, place: object) -> OSError | None:
    """Why this place cannot be bound, if it cannot."""
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)  # type: ignore[arg-type]  # as getaddrinfo made it
    except OSError as taken:
        return taken
    return None


def reason(error: OSError) -> str:
    """The system's words, without a number and a capital letter."""
    words = error.strerror or str(error)
    return words[:1].lower() + words[1:]
