"""The breaker against a plain account of what it promises, in any order of calls, ends and waits."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from winnow.breaker import Breaker, Permit
from winnow.errors import Unavailable

FAILURES, OPEN_S = 3, 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class AnyOrder(RuleBasedStateMachine):
    """`down_since` is None while closed; `current` are the permits whose end may still change something."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("it", failures=FAILURES, open_s=OPEN_S, clock=self.clock)
        self.out: list[Permit] = []
        self.current: set[int] = set()  # ids of permits
        self.probe: Permit | None = None
        self.failed_in_a_row = 0
        self.closed = True
        self.silent_until = 0.0

    def opened(self) -> None:
        self.closed, self.failed_in_a_row, self.probe = False, 0, None
        self.silent_until = self.clock.now + OPEN_S
        self.current.clear()

    @rule(seconds=st.sampled_from([0.5, OPEN_S / 2, OPEN_S, 3 * OPEN_S]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def call(self) -> None:
        try:
            permit = self.breaker.admit()
        except Unavailable:
            assert not self.closed
            assert self.clock.now < self.silent_until
            return
        assert self.closed or self.clock.now >= self.silent_until
        if not self.closed:
            self.opened()
            self.probe = permit
        assert permit.probe is not self.closed
        self.out.append(permit)
        self.current.add(id(permit))

    @rule(data=st.data(), how=st.sampled_from(["answered", "failed", "unknown"]))
    def end(self, data: st.DataObject, how: str) -> None:
        if not self.out:
            return
        permit = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        getattr(self.breaker, how)(permit)
        if id(permit) not in self.current:
            return
        self.current.discard(id(permit))
        if how == "answered":
            self.failed_in_a_row = 0
            if permit is self.probe:
                self.closed, self.probe = True, None
        elif how == "failed":
            self.failed_in_a_row += 1
            if permit is self.probe or self.failed_in_a_row == FAILURES:
                self.opened()
        elif permit is self.probe:
            self.silent_until = self.clock.now

    @invariant()
    def it_says_what_it_is(self) -> None:
        late = "half-open" if self.clock.now >= self.silent_until else "open"
        assert self.breaker.state == ("closed" if self.closed else late)


TestAnyOrder = AnyOrder.TestCase


def opened(clock: Clock) -> Breaker:
    breaker = Breaker("it", failures=1, open_s=OPEN_S, clock=clock)
    breaker.failed(breaker.admit())
    return breaker


def test_of_many_threads_one_probes() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    admitted: list[Permit] = []
    together = threading.Barrier(16)

    def ask() -> None:
        together.wait()
        with suppress(Unavailable):
            admitted.append(breaker.admit())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(admitted) == 1
    breaker.answered(admitted[0])
    assert breaker.state == "closed"


def test_an_answer_from_before_the_outage_does_not_end_it() -> None:
    clock = Clock()
    breaker = Breaker("it", failures=1, open_s=OPEN_S, clock=clock)
    before, breaking = breaker.admit(), breaker.admit()
    breaker.failed(breaking)
    breaker.answered(before)
    assert breaker.state == "open"


def test_while_it_is_open_the_refusal_says_when_to_ask_again() -> None:
    with pytest.raises(Unavailable, match=r"it: down, asked again in 10\.0 s"):
        opened(Clock()).admit()


def test_a_probe_that_could_not_tell_makes_room_for_the_next() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += OPEN_S
    breaker.unknown(breaker.admit())
    assert breaker.admit().probe
