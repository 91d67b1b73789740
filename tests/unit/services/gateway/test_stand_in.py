"""What Redis says of a person where it holds only a part of them, or something that another log left behind."""

from __future__ import annotations

import numpy as np

from services.gateway.stand_in import state_of
from winnow.hot_state import HotState, LastActs, Mark, pack, pack_link
from winnow.hot_store import HotStore
from winnow.types import Person, strings

LOG = 7
U1, S1, BOTH = Person("u1"), Person(session_id="s1"), Person("u1", "s1")


def state(position: int, *acts: int) -> HotState:
    """Clicks at these places of the log."""
    places = np.asarray(acts, np.int64)
    seen = strings([f"i{place}" for place in acts])
    ones = np.ones(len(acts))
    columns = ones.astype(np.int8), places.astype(np.float64), ones.astype(np.float32), ones.astype(np.int32), places
    counts = (0, len(acts), 0, 0, 0, 0)
    tail, taste = np.empty(0, np.uint32), np.zeros(64, np.float32)
    return HotState(LOG, position, LastActs(seen, *columns), counts, seen, tail, 0.0, taste)


def test_a_session_that_redis_does_not_have_may_have_acted_after_the_mark() -> None:
    """While Redis is made good, the user is written before somebody else's session is."""
    assert state_of(BOTH, {U1: state(120, 100)}, complete=50).watermark == 50
    assert state_of(U1, {U1: state(120, 100)}, complete=50).watermark == 120
    assert state_of(BOTH, {U1: state(120, 100), S1: "u1"}, complete=50).watermark == 120
    assert state_of(S1, {U1: state(120, 100), S1: "u1"}, complete=50).watermark == 120


def test_a_session_that_its_user_has_already_does_not_count_twice() -> None:
    """The link is written after the user's state, and the feature service may die in between."""
    told = state_of(BOTH, {U1: state(12, 3, 8, 11), S1: state(9, 3, 8)}, complete=9)
    assert (told.events, told.history.item_ids.tolist(), told.watermark) == (3, ["i3", "i8", "i11"], 9)
    told = state_of(BOTH, {U1: state(12, 11), S1: state(9, 3, 8)}, complete=9)
    assert (told.events, told.history.item_ids.tolist()) == (3, ["i3", "i8", "i11"])


def test_a_link_of_another_log_says_nothing() -> None:
    class Client:
        log = LOG

        def mget(self, keys: list[bytes]) -> list[bytes]:
            return [bytes(Mark(LOG, 5)), pack(state(5, 1)), pack_link(self.log, 5, "u1")]

    store, client = HotStore("redis://127.0.0.1:1/0", 0.1), Client()
    store._client = client
    _, known = store.known([U1, S1])
    assert known.keys() == {U1, S1}
    client.log = LOG + 1
    _, known = store.known([U1, S1])
    assert known.keys() == {U1}, "whom a session belonged to in another log is not known of in this one"
