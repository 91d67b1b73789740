"""Ask a gRPC server whether it can work, by the health protocol: `python -m winnow.serving.probe HOST:PORT [service]`.

For health checks of containers: one line that says why not, and the exit status. Without a service's name the server
answers for all of them. Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from winnow.serving.connect import connect

WAIT_S = 3.0
WELL, UNWELL = 0, 1
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def local(address: str) -> str:
    """How this machine reaches what listens on `host:port`."""
    host, _, port = address.rpartition(":")
    return f"{EVERYWHERE.get(host, host)}:{port}"


async def ask(address: str, service: str = "", wait_s: float = WAIT_S) -> int:
    """0 when it serves, else 1 with the reason on standard error."""
    why = await unwell(address, service, wait_s)
    if why:
        sys.stderr.write(f"{address}: {why}\n")
    return UNWELL if why else WELL


async def unwell(address: str, service: str, wait_s: float) -> str:
    """Why it does not serve; "" when it does."""
    channel = connect(address)
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=wait_s)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"
    finally:
        await channel.close()
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


if __name__ == "__main__":
    sys.exit(asyncio.run(ask(sys.argv[1], "".join(sys.argv[2:3]))))
