"""What drills are made of: a proxy that delays, and judges that see what went wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from drills.interleavings import Told, ask, counted
from drills.outages import Row
from drills.promotions import Watch
from drills.proxy import Proxy
from parts.program import HOST, free_ports


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=repeat, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def repeat(connection: socket.socket) -> None:
    with connection:
        while content := connection.recv(65_536):
            connection.sendall(content)


def test_a_proxy_passes_bytes_on_and_makes_them_late_only_when_told(echo: int) -> None:
    [port] = free_ports(1)
    with Proxy(port, echo).running() as proxy, socket.create_connection((HOST, port), 5) as client:
        assert quickest_s(client) < 0.1
        proxy.delay_s = 0.2
        assert 0.2 <= quickest_s(client) < 0.4
        proxy.delay_s = 0.0
        assert quickest_s(client) < 0.1


def test_what_follows_each_other_is_late_together_not_one_after_the_other(echo: int) -> None:
    [port] = free_ports(1)

    def all_s() -> float:
        began = time.monotonic()
        for _ in range(20):
            client.sendall(b"x" * 1_000)
            time.sleep(0.005)
        got = 0
        while got < 20_000:
            got += len(client.recv(65_536))
        return time.monotonic() - began

    with Proxy(port, echo).running() as proxy, socket.create_connection((HOST, port), 5) as client:
        proxy.delay_s = 0.2
        assert any(all_s() < 1.0 for _ in range(3))  # one after the other is four seconds each time


def quickest_s(client: socket.socket) -> float:
    """Of five exchanges: a machine that stalls delays one of them, a proxy all."""
    return min(exchanged_s(client) for _ in range(5))


def exchanged_s(client: socket.socket) -> float:
    began = time.monotonic()
    client.sendall(b"hello")
    assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    return time.monotonic() - began


def test_who_is_away_hangs_up() -> None:
    port, nobody = free_ports(2)
    with Proxy(port, nobody).running(), socket.create_connection((HOST, port), 5) as client:
        client.settimeout(5)
        assert hung_up(client)


def hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def answer(ranking: str, items: list[str], **more: object) -> httpx.Response:
    shown = [{"item_id": item, "score": 1.0} for item in items]
    document = {"items": shown, "skipped": [], "bundles": {"retrieval": "r", "ranking": ranking}, "request_id": "q"}
    return httpx.Response(200, json=document | more)


def test_an_answer_that_its_bundles_did_not_make_is_seen() -> None:
    watch = Watch()
    for _ in range(3):
        watch.note("p", answer("one", ["a", "b"]))
        watch.note("p", answer("two", ["b", "a"]))
    assert (watch.mixed, watch.distinct) == (0, 2)
    watch.note("p", answer("one", ["b", "a"]))
    assert watch.mixed == 1
    watch.note("p", httpx.Response(503))
    assert watch.failures == {"status 503": 1}


@pytest.mark.parametrize(
    ("told", "silent", "lies"),
    [
        ({}, 1, 0),
        ({"token_included": False}, 0, 0),
        ({"token_included": True}, 0, 1),
    ],
)
def test_a_token_that_is_passed_over_or_lied_about_is_seen(told: dict[str, object], silent: int, lies: int) -> None:
    """The person has acted on `a`, which the answer shows."""
    seen = Told()
    with httpx.Client(
        transport=httpx.MockTransport(lambda _: answer("one", ["a"], **told)), base_url="http://x"
    ) as web:
        ask(web, seen, "p", "token", {"a"})
    assert (len(seen.silent), len(seen.lies), seen.with_token) == (silent, lies, 1)


def test_counts_of_the_log_are_those_of_the_drills_people_by_the_minute() -> None:
    at = [datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC), datetime(2026, 1, 1, 12, 0, 50, tzinfo=UTC)]
    log = {"user_id": ["drill-1", "drill-1", "p", None], "event_id": ["a", "b", "c", "d"], "occurred_at": [*at, *at]}
    minutes, newest = counted(log)
    assert minutes == {"drill-1": {int(at[0].timestamp()) - 5: 2}}
    assert newest == {"drill-1": ["b", "a"]}


def test_an_outage_holds_only_without_failures_and_in_time() -> None:
    good = Row("redis", "stopped", 500, {}, {}, 20.0, 80.0, 1_440.0, 0.5)
    assert good.held
    assert not Row("redis", "stopped", 500, {"status 503": 1}, {}, 20.0, 80.0, 1_440.0, 0.5).held
    assert not Row("redis", "stopped", 500, {}, {}, 20.0, 1_500.0, 1_440.0, 0.5).held
