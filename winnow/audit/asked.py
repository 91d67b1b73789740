"""Who asks, and by which way: what the edge of a face knows of the call that the current task serves.

The one place where a record of the audit log learns who it is about to name.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from winnow.serving.principal import principal

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Asked:
    """`who` is a principal, never a person who is recommended to; `route` is a route's template or an RPC's name."""

    who: str
    route: str


def nowhere() -> str:
    return ""


route: ContextVar[Callable[[], str]] = ContextVar("route", default=nowhere)
"""Set by the edge of a face; called once the call was led to its handler."""


def asked() -> Asked:
    """Cheap: called on the request path."""
    return Asked(who(), route.get()())


def who() -> str:
    """The principal of the current call: its kind and its name, like `key:shop`."""
    one = principal.get()
    return f"{one.kind}:{one.subject}" if one.known else ANONYMOUS


def operator() -> str:
    """Who runs a command on this machine, as the system knows them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        name = "unknown"
    return f"{name}@{socket.gethostname()}"
