"""A port over gRPC on loopback, for suites that run near and far."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from winnow.serving.connect import connect
from winnow.serving.serve import serve_grpc

CLIENTS = {
    "feature": "FeatureClient",
    "retrieval": "RetrievalClient",
    "ranking": "RankingClient",
    "explanation": "ExplanationClient",
    "gateway": "GatewayClient",
}


@asynccontextmanager
async def over_grpc(service: str, implementation: Any, *, timeout_s: float = 10.0) -> AsyncIterator[Any]:
    """A client of `implementation`, which serves on a free loopback port meanwhile."""
    wire = import_module(f"winnow.wire.{service}")
    server = await serve_grpc([wire.register(implementation)], "127.0.0.1:0", grace_s=0.1)
    client: Callable[..., Any] = getattr(wire, CLIENTS[service])
    async with connect(server.address) as channel:
        yield client(channel, timeout_s=timeout_s)
    await server.stop()
