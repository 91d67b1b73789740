"""The gateway's guard: who asks, how often, and whether they may, in this order, before anything of a request is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.access import ACCESS, Need
from services.gateway.api_keys import ApiKeys
from services.gateway.key_set import KeySet
from services.gateway.rates import Buckets, Rate, name_of
from services.gateway.tokens import Tokens
from winnow.errors import PermissionDenied, RateLimited, Unauthenticated, Unavailable, WinnowError
from winnow.serving.guard import API_KEY, AUTHORIZATION, Admission, Budget, Credentials
from winnow.serving.principal import NOBODY, Principal


@dataclass(frozen=True)
class Callers:
    """Recognises callers by exactly one credential: a bearer token or an API key."""

    tokens: Tokens | None
    keys: ApiKeys | None

    async def find(self, credentials: Credentials) -> Principal:
        """Unauthenticated says what is wrong with the credential; Unavailable where nobody could tell now."""
        brought = len(credentials.authorization) + len(credentials.api_keys)
        if brought != 1:
            several = "send one credential" if brought else self._wanted()
            raise Unauthenticated(several, field=AUTHORIZATION if self.tokens else API_KEY)
        if credentials.api_keys:
            return self._holder(credentials.api_keys[0])
        scheme, _, token = credentials.authorization[0].partition(" ")
        if scheme.lower() != "bearer" or self.tokens is None:
            raise Unauthenticated(self._wanted(), field=AUTHORIZATION)
        return await self.tokens.find(token.strip(" "))

    def _holder(self, text: str) -> Principal:
        if self.keys is None:
            raise Unauthenticated(self._wanted(), field=API_KEY)
        return self.keys.find(text)

    def _wanted(self) -> str:
        ways = ["a token (authorization: Bearer …)"] * (self.tokens is not None)
        ways += ["an API key (x-api-key: …)"] * (self.keys is not None)
        return f"send {' or '.join(ways)}"


@dataclass(frozen=True)
class Gate:
    """`callers` is None where authentication is off, a rate None where nobody counts."""

    callers: Callers | None
    buckets: Buckets
    caller_rate: Rate | None
    address_rate: Rate | None
    key_set: KeySet | None = None
    access: Mapping[str, Need] = field(default_factory=lambda: ACCESS)

    async def admit(self, what: str, credentials: Credentials) -> Admission:
        need = self.access.get(what)
        if need == "probe":
            return Admission(unasked=True)
        caller, trouble = await self._recognised(credentials)
        budget = await self._budget(caller, credentials.address)
        if budget is not None and not budget.allowed:
            again = f"ask again in {budget.retry_s:.3g} s"
            return Admission(caller, budget, RateLimited(f"more than {budget.limit} requests at once; {again}"))
        return Admission(caller, budget, self._refusal(need, caller, trouble))

    async def follow(self) -> None:
        """Keep what callers are recognised by fresh, for ever."""
        keys = self.callers.keys if self.callers else None
        followed = [one.follow() for one in (self.key_set, keys) if one is not None]
        await asyncio.gather(asyncio.Event().wait(), *followed)  # there may be nothing to follow

    async def close(self) -> None:
        await self.buckets.close()

    async def _recognised(self, credentials: Credentials) -> tuple[Principal, WinnowError | None]:
        if self.callers is None:
            return NOBODY, None
        try:
            return await self.callers.find(credentials), None
        except (Unauthenticated, Unavailable) as unknown:
            return NOBODY, unknown

    async def _budget(self, caller: Principal, address: str) -> Budget | None:
        rate = self.caller_rate if caller.known else self.address_rate
        return None if rate is None else await self.buckets.take(name_of(caller, address), rate)

    def _refusal(self, need: Need | None, caller: Principal, trouble: WinnowError | None) -> WinnowError | None:
        if self.callers is None or need == "open":
            return None
        if trouble is not None:
            return trouble
        if need is None:
            return PermissionDenied("nobody may do this: it is not in the table of access")
        return None if need in caller.scopes else PermissionDenied(f"needs the scope {need}", scope=need)
