"""The generator's own accounting, against a small server whose every delay is known."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import orjson
import psutil
import pytest

from bench.faces import RestFace, fault_of, parse
from bench.load import Load, Outcome, from_json, generate, precise_loop, schedule, to_json
from bench.measure import Measured, highest_rate, measure
from bench.plan import Bench, Lengths

ANSWER = {"items": [{"item_id": str(n)} for n in range(10)], "skipped": [], "took_ms": {"rank": 2.5, "total": 4.0}}


def http(body: object, status: int = 200) -> bytes:
    text = orjson.dumps(body)
    return b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        len(text),
        text,
    )


@contextmanager
def serving(answer: Callable[[int], bytes]) -> Iterator[int]:
    """An HTTP server in a thread; `answer(k)` gives the bytes of the k-th answer and may block, which stalls it whole."""
    count = 0

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                count += 1
                writer.write(answer(count - 1))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(client, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def run(load: Load) -> Outcome:
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        return runner.run(generate(load, lambda: None))


def load(port: int, rate: float, seconds: float, **more: object) -> Load:
    settings = {"arrivals": "constant", "warm_s": 0.1, "people": ("7", "8"), **more}
    return Load("rest", "127.0.0.1", port, rate, seconds, **settings)  # type: ignore[arg-type]


def test_a_stall_is_charged_to_every_request_that_was_meant_to_leave_during_it() -> None:
    def answer(k: int) -> bytes:
        if k == 60:
            time.sleep(0.5)
        return http(ANSWER)

    def no_other_is_charged() -> bool:
        with serving(answer) as port:
            outcome = run(load(port, rate=100, seconds=2, connections=4))
        waited = outcome.latency_ms[outcome.latency_ms > 100]
        # 100 requests/s for half a second: fifty were due; those due in its first 0.4 s wait for more than 100 ms.
        assert len(waited) >= 36
        assert outcome.percentile(99) > 400
        return len(waited) <= 60 and 200 < waited.mean() < 400 and outcome.percentile(50) < 50

    # A generator that charges too much does so each time, a machine that stalls by itself now and then.
    assert any(no_other_is_charged() for _ in range(5))


def test_a_closed_loop_would_have_hidden_the_same_stall() -> None:
    """The accounting that this generator must not have: one request at a time, timed from when it left."""
    stall: list[float] = []

    def answer(k: int) -> bytes:
        if k == 60:
            stall.append(time.monotonic())
            time.sleep(0.5)
            stall.append(time.monotonic())
        return http(ANSWER)

    async def closed(port: int) -> list[tuple[float, float]]:
        face, took = RestFace("127.0.0.1", port, 10, 1), []
        for _ in range(200):
            left = time.monotonic()
            await face.ask("7")
            took.append((left, time.monotonic()))
        await face.close()
        return took

    with serving(answer) as port:
        took = asyncio.run(closed(port))
    began, ended = stall
    [only] = [back - left for left, back in took if left < ended and back > began]
    assert only > 0.4


def test_requests_leave_on_time_whatever_the_answers_do() -> None:
    def answer(k: int) -> bytes:
        if k % 20 == 10:
            time.sleep(0.05)
        return http(ANSWER)

    def on_time() -> bool:
        began = time.monotonic()
        outcome = run(load(port, rate=200, seconds=1.5, arrivals="poisson"))
        took = time.monotonic() - began
        assert len(outcome) == 300
        assert took > 1.5
        return took < 3 and np.percentile(outcome.lag_ms, 90) < 20

    with serving(answer) as port:  # who waits for answers is late each time, who shares a core now and then
        assert any(on_time() for _ in range(5))


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_a_schedule_keeps_its_rate_and_its_order(arrivals: str) -> None:
    starts = schedule(50, 20, arrivals, np.random.default_rng(1))  # type: ignore[arg-type]
    assert len(starts) == 1000
    assert (np.diff(starts) >= 0).all()
    assert 0 <= starts[0] <= starts[-1] <= 20
    gaps = np.diff(starts)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    # Of exponential gaps the standard deviation equals the mean.
    assert gaps.std() == pytest.approx(1 / 50 if arrivals == "poisson" else 0, rel=0.1, abs=1e-9)


def test_every_wrong_answer_is_counted_by_its_reason() -> None:
    wrong = [
        http(ANSWER),
        http({"title": "no"}, status=503),
        http(ANSWER | {"items": ANSWER["items"][:9]}),  # type: ignore[index]
        http(ANSWER | {"skipped": ["rank"]}),
        http(ANSWER | {"items": [{"item_id": "1"}] * 10}),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ]
    with serving(lambda k: wrong[k % 6]) as port:
        outcome = run(load(port, rate=120, seconds=0.5, warm_s=0.0))
    assert outcome.faults == {
        "status 503": 10,
        "9 items": 10,
        "skipped rank": 10,
        "an item twice": 10,
        "connection: ConnectionError": 10,
    }


def test_an_answer_that_never_comes_costs_its_time_out_and_spoils_no_other() -> None:
    def answer(k: int) -> bytes:
        return b"" if k == 5 else http(ANSWER)

    with serving(answer) as port:
        outcome = run(load(port, rate=50, seconds=0.4, warm_s=0.0, timeout_s=2.0))
    assert outcome.faults == {"no answer within 2 s": 1}
    assert (outcome.latency_ms > 1_990).sum() == 1


def test_a_server_that_is_not_there_is_a_fault_of_every_request() -> None:
    with serving(lambda k: b"") as port:
        pass
    outcome = run(load(port, rate=50, seconds=0.2, warm_s=0.0, timeout_s=0.5))
    assert sum(outcome.faults.values()) == len(outcome) == 10


def test_stage_times_come_from_the_answers() -> None:
    with serving(lambda k: http(ANSWER)) as port:
        outcome = run(load(port, rate=50, seconds=0.2))
    assert outcome.took_ms["rank"].tolist() == [2.5] * 10


def test_an_outcome_travels_between_processes() -> None:
    with serving(lambda k: http(ANSWER, 200 if k % 5 else 503)) as port:
        outcome = run(load(port, rate=50, seconds=0.2, warm_s=0.0))
    again = from_json(to_json(outcome))
    assert again.faults == outcome.faults == {"status 503": 2}
    assert again.latency_ms.tolist() == outcome.latency_ms.tolist()
    assert again.took_ms["total"].tolist() == [4.0] * 8


def test_a_window_of_another_process_counts_what_the_server_used() -> None:
    def answer(k: int) -> bytes:
        until = time.thread_time() + 0.004
        while time.thread_time() < until:
            pass
        return http(ANSWER)

    with serving(answer) as port:
        measured = measure(load(port, rate=50, seconds=2), [psutil.Process()])
    assert len(measured.outcome) == 100
    assert not measured.outcome.faults
    assert 3.5 < measured.cpu_ms_per_request < 8
    assert 0 <= measured.other_cpu <= 1


def test_a_generator_that_fails_fails_the_benchmark(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="generator ended with 1"):
        measure(load(1, rate=50, seconds=1, people=()), [])
    capfd.readouterr()


@pytest.mark.parametrize("capacity", [3.0, 47.0, 80.0, 140.0, 900.0])
def test_the_search_for_the_highest_rate_comes_close_from_below(capacity: float) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= capacity

    found = highest_rate(holds, first=80, probes=12)
    assert len(tried) == 12
    assert found <= capacity < found * 1.1


def test_a_search_where_nothing_holds_says_zero() -> None:
    assert highest_rate(lambda rate: False, first=80, probes=4) == 0


def test_an_answer_in_pieces_is_waited_for() -> None:
    whole = http(ANSWER)
    assert parse(bytearray(whole[:30])) is None
    assert parse(bytearray(whole[:-1])) is None
    assert parse(bytearray(whole)) == (200, orjson.dumps(ANSWER))
    with pytest.raises(ValueError, match="content-length"):
        parse(bytearray(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"))


def test_an_answer_is_complete_with_all_items_distinct_and_nothing_skipped() -> None:
    assert fault_of(["1", "2"], 2, []) == ""
    assert fault_of(["1"], 2, []) == "1 items"
    assert fault_of(["1", "1"], 2, []) == "an item twice"
    assert fault_of(["1", "2"], 2, ["features", "explain"]) == "skipped features, explain"


@pytest.mark.parametrize(("slow", "held"), [(2, True), (3, False)])
def test_a_rate_is_judged_by_enough_requests_and_one_bad_window_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, slow: int, held: bool
) -> None:
    """Of 300 requests the 99th percentile lies below three that are slow, but not below two."""
    asked: list[tuple[float, float]] = []

    def ask(bench: Bench, world: object, platform: object, face: str, rate: float, seconds: float) -> Measured:
        asked.append((rate, seconds))
        late = np.full(round(rate * seconds), 10.0)
        late[: slow if len(asked) % 2 == 0 else 100] = 60.0  # every other window meets a bad moment
        return Measured(Outcome(late, late, Counter()), 1.0, 0.0)

    monkeypatch.setattr(Bench, "ask", ask)
    bench = Bench(Lengths(probes=1), lambda line: None)
    bench.figures.put("e2e.rest.x.100rps.cpu_ms_per_request", 70.0)
    highest = bench.highest(None, None, "rest", "x")  # type: ignore[arg-type]
    assert asked == [(10.0, 30.0), (10.0, 30.0)]
    assert highest == (10.0 if held else 0.0)
