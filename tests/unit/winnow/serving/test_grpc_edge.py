"""Errors keep their class over gRPC, deadlines travel, and a server ends without dropping what it holds."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.wirings import over_grpc
from winnow.errors import (
    ERRORS,
    DeadlineExceeded,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
    Unavailable,
    WinnowError,
)
from winnow.pipeline import Run, remaining_s
from winnow.requests import Readiness
from winnow.serving.connect import connect
from winnow.serving.serve import serve_grpc
from winnow.serving.status import PeerFailed, error_of
from winnow.serving.telemetry import request_id
from winnow.types import Person, UserState
from winnow.wire import feature


class People:
    """A Features port of ten lines: answers, fails or dawdles as told."""

    def __init__(self, error: Exception | None = None, dawdle_s: float = 0.0, ready: bool = True) -> None:
        self.error, self.dawdle_s, self.is_ready = error, dawdle_s, ready
        self.saw: dict[str, Any] = {}

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        self.saw = {"remaining_s": remaining_s(-1.0), "request_id": request_id.get()}
        await asyncio.sleep(self.dawdle_s)
        if self.error:
            raise self.error
        return [UserState(person) for person in people]

    async def ready(self) -> Readiness:
        return Readiness(self.is_ready)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_keeps_its_class_its_words_and_its_field(kind: type[WinnowError]) -> None:
    async with over_grpc("feature", People(kind("no – nicht", field="items[3].prix é"))) as client:
        with pytest.raises(WinnowError) as raised:
            await client.users([Person("u")])
    assert type(raised.value) is kind
    assert (raised.value.detail, raised.value.field) == ("no – nicht", "items[3].prix é")


async def test_a_bug_in_a_peer_is_as_loud_as_a_bug_here() -> None:
    async with over_grpc("feature", People(ValueError("secret detail"))) as client:
        with pytest.raises(PeerFailed) as raised:
            await client.users([Person("u")])
    assert "secret" not in str(raised.value)


def broken(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """A call that gRPC itself failed: no slug."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", PayloadTooLarge),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", ResourceExhausted),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
        ("UNAVAILABLE", "Socket closed", Unavailable),
        ("CANCELLED", "the server stops", Unavailable),
        ("UNKNOWN", "Stream removed", Unavailable),
        ("INTERNAL", "Received RST_STREAM with error code 2", Unavailable),
        ("UNIMPLEMENTED", "Method not found!", FailedPrecondition),
    ],
)
def test_what_grpc_itself_says_becomes_an_error_that_can_be_survived(
    code: str, details: str, kind: type[WinnowError]
) -> None:
    assert isinstance(error_of("ranking", broken(grpc.StatusCode[code], details)), kind)


async def test_a_peer_that_is_away_is_unavailable_at_once() -> None:
    async with connect("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable, match=r"^feature at 127\.0\.0\.1:1 cannot be reached: nothing listens there$"):
            await asyncio.wait_for(feature.FeatureClient(channel, timeout_s=30).users([Person("u")]), 5)


@pytest.mark.parametrize(
    ("details", "why"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:50053: Connection refused (111)",
            "nothing listens there",
        ),
        ("DNS resolution failed for ranking:50053: C-ares status is not ARES_SUCCESS", "its name is not known here"),
        (
            "failed to connect to all addresses; last error: UNKNOWN: connect: Network is unreachable (101)",
            "no way leads to its network",
        ),
        ("recvmsg:Connection reset by peer", "the connection broke"),
        ("", "the connection broke"),
    ],
)
def test_who_is_away_and_why_is_said_in_plain_words(details: str, why: str) -> None:
    away = error_of("ranking", broken(grpc.StatusCode.UNAVAILABLE, details), "ranking:50053")
    assert str(away) == f"ranking at ranking:50053 cannot be reached: {why}"


async def test_what_a_peer_lacks_is_not_taken_for_its_absence() -> None:
    async with over_grpc("feature", People(Unavailable("the log is away"))) as client:
        with pytest.raises(Unavailable, match=r"^the log is away$") as raised:
            await client.users([Person("u")])
    assert type(raised.value) is Unavailable


async def test_what_does_not_speak_grpc_is_said_so() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connect(address) as channel:
            with pytest.raises(Unavailable, match="does not speak gRPC"):
                await feature.FeatureClient(channel, timeout_s=5).users([Person("u")])


async def test_a_peer_that_is_too_slow_exceeds_the_deadline() -> None:
    async with over_grpc("feature", People(dawdle_s=5), timeout_s=0.1) as client:
        with pytest.raises(DeadlineExceeded):
            await client.users([Person("u")])


async def test_the_budget_of_a_stage_and_the_request_id_reach_the_peer() -> None:
    people = People()
    async with over_grpc("feature", people) as client:
        await client.users([Person("u")])
        assert people.saw["remaining_s"] > 5
        request_id.set("4bf92f3577b34da6a3ce929d0e0e4736")
        await Run().required("users", client.users([Person("u")]), budget_s=4.0)
    assert 0 < people.saw["remaining_s"] < 4.01  # gRPC counts in whole milliseconds
    assert people.saw["request_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_health_follows_readiness() -> None:
    people = People(ready=False)
    server = await serve_grpc([feature.register(people)], "127.0.0.1:0", grace_s=0.1)
    async with connect(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check

        async def becomes(status: int, service: str = "") -> None:
            async with asyncio.timeout(30):
                while (await check(health_pb2.HealthCheckRequest(service=service))).status != status:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)
        people.is_ready = True
        for service in ("", "winnow.v1.FeatureService"):
            await becomes(health_pb2.HealthCheckResponse.SERVING, service)
    await server.stop()


async def test_stopping_finishes_what_is_in_flight() -> None:
    people = People(dawdle_s=0.5)
    server = await serve_grpc([feature.register(people)], "127.0.0.1:0", grace_s=5)
    async with connect(server.address) as channel:
        in_flight = asyncio.create_task(feature.FeatureClient(channel, timeout_s=5).users([Person("u")]))
        await until(lambda: bool(people.saw))
        await server.stop()
        assert [user.person.user_id for user in await in_flight] == ["u"]


async def test_a_taken_port_is_said_in_one_line() -> None:
    server = await serve_grpc([feature.register(People())], "127.0.0.1:0", grace_s=0.1)
    with pytest.raises(Unavailable, match="cannot listen"):
        await serve_grpc([feature.register(People())], server.address)
    await server.stop()


async def test_a_message_over_the_limit_is_refused_not_cut() -> None:
    async with over_grpc("feature", People()) as client:
        channel_error = [Person("x" * 250 + str(n)) for n in range(140_000)]
        with pytest.raises(PayloadTooLarge):
            await client.users(channel_error)


def test_every_grpc_name_in_the_table_exists() -> None:
    assert all(hasattr(grpc.StatusCode, status.grpc) for status in ERRORS.values())


async def test_calls_are_spread_over_all_addresses_of_a_name() -> None:
    people = [People(), People()]
    servers = [
        await serve_grpc([feature.register(one)], f"127.0.0.{n}:0", grace_s=0.1) for n, one in enumerate(people, 1)
    ]
    async with connect("ipv4:" + ",".join(server.address for server in servers)) as channel:
        client = feature.FeatureClient(channel, timeout_s=5)
        async with asyncio.timeout(30):
            while not all(one.saw for one in people):
                await client.users([Person("u")])
                await asyncio.sleep(0.005)
    for server in servers:
        await server.stop()


async def test_a_process_is_live_before_it_is_ready() -> None:
    server = await serve_grpc([feature.register(People(ready=False))], "127.0.0.1:0", grace_s=0.1)
    async with connect(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="live"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.stop()
