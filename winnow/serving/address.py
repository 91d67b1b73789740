"""`host:port`, checked when settings are read: of a face that listens and of a peer."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

LAST_PORT = 65_535


def checked(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) <= LAST_PORT):
        raise PydanticCustomError("address", "give host:port, for example 127.0.0.1:8080")
    return address


Address = Annotated[str, AfterValidator(checked)]
