"""What comes in as a trace, what goes out, and that nothing is recorded where nothing should be."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.spans import Keeper, keeping
from winnow import tracing
from winnow.errors import Unavailable
from winnow.pipeline import Run
from winnow.serving.telemetry import JsonLines
from winnow.tracing import (
    MOST,
    Kind,
    Shared,
    TraceContext,
    Tracer,
    arrive,
    carried,
    carried_by,
    carrying,
    exemplar,
    headers,
    own_id,
    read,
    record_with,
    span,
)

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with keeping() as one:
        yield one


def alone(work: Callable[[], None]) -> None:
    """In a task of its own, as every request is."""

    async def run() -> None:
        work()

    asyncio.run(run())


async def nothing() -> None:
    pass


# ------------------------------------------------------------------------------------------ W3C


def test_a_traceparent_is_read_as_w3c_says() -> None:
    assert read(GIVEN) == TraceContext(TRACE, PARENT, True, remote=True)
    assert read(f"00-{TRACE}-{PARENT}-00") == TraceContext(TRACE, PARENT, False, remote=True)
    assert read(f"cc-{TRACE}-{PARENT}-03-what the future holds".replace(" ", "_")) is not None
    assert read(GIVEN, "a=1,b@c=2") == TraceContext(TRACE, PARENT, True, "a=1,b@c=2", remote=True)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        GIVEN.upper(),
        GIVEN + "-more",
        GIVEN + "\n",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 1_000}",
        f"00-{TRACE}-{PARENT}-0١",
    ],
)
def test_what_is_no_traceparent_is_ignored(wrong: str) -> None:
    assert read(wrong) is None


PARENTS = st.builds(
    "{}-{:032x}-{:016x}-{}{}".format,
    st.sampled_from(("00", "01", "ff", "0A")),
    st.integers(0, 2**128 - 1) | st.just(0),
    st.integers(0, 2**64 - 1) | st.just(0),
    st.sampled_from(("00", "01", "03", "zz")),
    st.sampled_from(("", "-", "-more")),
)
MEMBER = st.builds("{}={}".format, st.sampled_from(("a", " b@c", "A", "")), st.text("xyz ,=\r\n", max_size=9))


@given(PARENTS | st.text(max_size=60), st.lists(MEMBER, max_size=8).map(",".join) | st.text(max_size=60))
@example(GIVEN, "x" * 600)
@example(GIVEN, "a=1\r\nset-cookie: x")
@example(GIVEN, ",".join(f"k{n}=v" for n in range(40)))
def test_whatever_comes_goes_out_as_valid_headers_or_not_at_all(parent: str, state: str) -> None:
    found = read(parent, state)
    if found is not None:
        assert read(*(text for _, text in found.pairs)) == found
        assert all(text.isascii() and text.isprintable() and len(text) <= 512 for _, text in found.pairs)


def test_a_trace_travels_in_a_records_headers_only_when_sampled() -> None:
    there = TraceContext(TRACE, PARENT, True, "a=1")
    assert carried_by((("reason", b"x"), *carrying(there))) == TraceContext(TRACE, PARENT, True, "a=1", remote=True)
    assert carried_by(carrying(TraceContext(TRACE, PARENT, False))) is None
    assert carried_by([("traceparent", b"\xff\xfe")]) is None
    assert carried_by([("traceparent", None), ("tracestate", None)]) is None
    assert carrying(None) == ()


# ------------------------------------------------------------------------------------------ off


def test_where_nothing_records_no_span_is_made_and_a_callers_trace_is_passed_on() -> None:
    def request() -> None:
        assert arrive("HTTP", GIVEN, "a=1", face=True) is tracing.NOT_RECORDED
        assert span("ranking") is tracing.NOT_RECORDED
        assert headers() == (("traceparent", GIVEN), ("tracestate", "a=1"))
        assert tracing.trace_id() == TRACE
        assert exemplar() is None
        arrive("HTTP", "", face=True)
        assert headers() == ()
        assert tracing.trace_id() == ""

    alone(request)


def test_a_request_that_is_not_sampled_makes_no_span_and_keeps_its_trace(keeper: Keeper) -> None:
    def request() -> None:
        arrive("HTTP", f"00-{TRACE}-{PARENT}-00", face=True)
        assert span("ranking") is tracing.NOT_RECORDED
        assert headers() == (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
        assert carried() is None
        assert Shared("send", Kind.PRODUCER).join(carried()) is None

    alone(request)
    assert keeper.spans == []


def test_behind_the_gateway_no_trace_begins(keeper: Keeper) -> None:
    alone(lambda: arrive("winnow.v1.FeatureService/Catalogue", "").end())
    assert keeper.spans == []


# ------------------------------------------------------------------------------------------ sampling


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 2**128 - 1))
def test_what_a_smaller_share_takes_a_larger_takes_too(one: float, other: float, number: int) -> None:
    few, many = (Tracer(Keeper(), ratio, 1) for ratio in sorted((one, other)))
    assert many.samples(f"{number:032x}") >= few.samples(f"{number:032x}")


def test_request_ids_as_they_are_made_are_sampled_at_the_given_share() -> None:
    from uuid import uuid4

    tracer = Tracer(Keeper(), 0.1, 1)
    assert 1_600 < sum(tracer.samples(uuid4().hex) for _ in range(20_000)) < 2_400
    assert not any(Tracer(Keeper(), 0.0, 1).samples(uuid4().hex) for _ in range(1_000))
    assert all(Tracer(Keeper(), 1.0, 1).samples(uuid4().hex) for _ in range(1_000))


def test_callers_cannot_have_more_traced_than_the_limit(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("winnow.tracing.time.monotonic", lambda: now[0])
    record_with(Tracer(keeper, 0.0, 3))

    def request() -> None:
        arrive("HTTP", GIVEN, face=True)
        assert tracing.trace_id() == TRACE

    for _ in range(10):
        alone(request)
    assert len(keeper.spans) == 3
    now[0] += 1
    alone(request)
    assert len(keeper.spans) == 4
    for _ in range(10):
        alone(lambda: arrive("winnow.v1.RankingService/Rank", GIVEN).end())  # what the gateway began goes on
    assert len(keeper.spans) == 14


def test_less_than_one_trace_a_second_is_one_in_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("winnow.tracing.time.monotonic", lambda: now[0])
    tracer = Tracer(Keeper(), 1.0, 0.1)
    begun = []
    for _ in range(60):
        begun.append(tracer.has_room())
        now[0] += 1.0
    assert begun[0]
    assert 6 <= sum(begun) <= 7


# ------------------------------------------------------------------------------------------ on


def test_stages_are_spans_below_the_request_by_their_own_names(keeper: Keeper) -> None:
    async def late() -> None:
        raise Unavailable("u-4711 is nobody's business")

    async def request() -> None:
        run = Run()
        with arrive("POST /v1/recommendations", "", own_id=TRACE, face=True):
            await run.required("feature", nothing(), 1.0)
            await run.optional("ranking", late(), 1.0, lambda: None)
            with run.step("arrange"):
                assert exemplar() == {"trace_id": TRACE}

    asyncio.run(request())
    root, *stages = keeper.spans
    assert (root.kind, root.parent, root.context.trace_id) == (Kind.SERVER, None, TRACE)
    assert [one.name for one in stages] == ["feature", "ranking", "arrange"]
    assert {one.parent for one in stages} == {root.context}
    assert [one.attributes["winnow.outcome"] for one in stages] == ["ok", "skipped", "ok"]
    assert [one.error for one in keeper.spans] == ["", "", "skipped", ""]
    assert "4711" not in repr(keeper.spans)


def test_an_error_is_named_by_its_kind_and_not_quoted(keeper: Keeper) -> None:
    def request() -> None:
        with pytest.raises(ValueError, match="4711"), arrive("HTTP", GIVEN, face=True):
            raise ValueError("4711")

    alone(request)
    assert keeper.spans[0].error == "ValueError"
    assert "4711" not in repr(keeper.spans)


def test_a_callers_own_request_id_is_no_attribute() -> None:
    assert own_id(TRACE) == {"winnow.request_id": TRACE}
    assert own_id("jane@example.org") == {}


def test_work_for_many_requests_enters_the_traces_of_some(keeper: Keeper) -> None:
    parents = [TraceContext(f"{n:032x}", PARENT, True) for n in range(1, 2 * MOST)]
    with Shared("redis.write", Kind.CLIENT).join_all([None, parents[0], *parents]) as shared:
        assert shared.join(parents[0]) == keeper.spans[0].context
        assert shared.join(parents[-1]) == parents[-1]
    assert [one.parent for one in keeper.spans] == parents[:MOST]
    assert {one.error for one in keeper.spans} == {""}


def test_a_line_of_the_log_names_the_trace(keeper: Keeper) -> None:
    def line() -> dict[str, str]:
        record = logging.LogRecord("winnow", logging.INFO, __file__, 1, "served", (), None)
        said: dict[str, str] = json.loads(JsonLines().format(record))
        return said

    def request() -> None:
        arrive("HTTP", f"00-{TRACE}-{PARENT}-00", face=True)
        assert line()["trace_id"] == TRACE

    alone(request)
    record_with(None)
    alone(request)
    assert "trace_id" not in line()
