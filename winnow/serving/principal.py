"""Who asks: what authentication has found out about the caller of the current request.

The faces set it before a request reaches a route or an RPC; whoever acts on behalf of the caller, and the audit above all,
reads it. It never holds a credential.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

Scope = Literal["recommend", "events:write", "catalog:write", "models:promote", "admin", "privacy"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""What a caller may be allowed to do. No scope implies another."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `subject` is the subject of a token, or the id of an API key; `issuer` is who vouched for a token.

    A subject may be a person's: it belongs into the audit log and never into logs, metrics or traces."""

    subject: str
    kind: Literal["nobody", "token", "key"]
    scopes: frozenset[Scope]
    issuer: str = ""

    @property
    def known(self) -> bool:
        return self.kind != "nobody"


NOBODY = Principal("", "nobody", frozenset())

principal: ContextVar[Principal] = ContextVar("principal", default=NOBODY)
"""The caller of the request that the current task serves; NOBODY outside requests and where authentication is off."""
