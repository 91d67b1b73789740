"""A guarded gateway of fakes, on both faces, and callers of every kind."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
import httpx
import orjson

from services.gateway.access import ACCESS, Need
from services.gateway.api_keys import ApiKeys, create
from services.gateway.build import face
from services.gateway.gate import Callers, Gate
from services.gateway.rates import InMemory, Rate
from services.gateway.settings import Settings
from services.gateway.tokens import Expected, Tokens
from tests.gateways import Inner, gateway_over
from tests.issuers import AUDIENCE, ISSUER, key_set
from winnow.serving.connect import connect
from winnow.serving.principal import SCOPES, Scope
from winnow.serving.serve import serve_grpc
from winnow.wire import gateway as wire

LEEWAY_S = 5.0


def key_file(*rows: Any) -> str:
    return orjson.dumps({"keys": [row.model_dump(mode="json") for row in rows]}).decode()


def new_key(scopes: tuple[Scope, ...] = SCOPES, id: str = "shop", expires_at: Any = None) -> tuple[str, str]:
    """A key, and the file that knows it."""
    key, row = create(id, scopes, expires_at)
    return key, key_file(row)


def guard(
    keys: str = "",
    *,
    rate: Rate | None = None,
    address_rate: Rate | None = None,
    access: Mapping[str, Need] = ACCESS,
    tokens: Any = None,
) -> Gate:
    """Recognises tokens of `tests.issuers` and the API keys of a file's content."""
    tokens = tokens or Tokens(key_set(), Expected(ISSUER, AUDIENCE, LEEWAY_S))
    callers = Callers(tokens, ApiKeys(keys) if keys else None)
    return Gate(callers, InMemory(), rate, address_rate, None, access)


@dataclass
class Faces:
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    inner: Inner
    app: Any


@asynccontextmanager
async def faces(gate: Gate | None, **settings: Any) -> AsyncIterator[Faces]:
    """Both faces of a gateway of fakes: REST in this process, gRPC over loopback."""
    chosen, inner = Settings(**settings), Inner()
    gateway = gateway_over(inner)
    app = face(chosen, gateway, gate)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    limits = chosen.limits(chosen.max_body_bytes, chosen.body_s)
    server = await serve_grpc([wire.register(gateway)], "127.0.0.1:0", grace_s=0.1, guard=gate, limits=limits)
    try:
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://winnow") as http,
            connect(server.address) as channel,
        ):
            yield Faces(http, channel, inner, app)
    finally:
        await server.stop()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
