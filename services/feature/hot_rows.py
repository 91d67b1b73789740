"""What Redis is told of one person, made from what the process knows: the packed hot state, and their activity features
as Feast keeps them. The same code and the same acts as every other answer, so nothing can differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from services.feature.store import People
from winnow.acts import TYPES, Acts
from winnow.feast_layout import Layout
from winnow.feature_views import SESSION_ACTIVITY, USER_ACTIVITY
from winnow.features import UserView
from winnow.hot_state import ACTS, HotState, LastActs, pack, pack_link
from winnow.hot_store import Row
from winnow.session_taste import direction, session_begins, taste
from winnow.types import Context, Floats, Item, Person, UserState

REMEMBERED = 50_000  # items whose facts are kept at hand
USERS, SESSIONS = Layout((USER_ACTIVITY,)), Layout((SESSION_ACTIVITY,))


class Facts:
    """Items and their directions, read once and forgotten when they change."""

    def __init__(self, item: Callable[[str], Item | None]) -> None:
        self._read = item
        self._known: dict[str, tuple[Item | None, Floats]] = {}

    def item(self, item_id: str) -> Item | None:
        return self._facts(item_id)[0]

    def direction(self, item_id: str) -> Floats:
        return self._facts(item_id)[1]

    def forget(self, item_ids: Iterable[str]) -> None:
        for item_id in item_ids:
            self._known.pop(item_id, None)

    def _facts(self, item_id: str) -> tuple[Item | None, Floats]:
        found = self._known.get(item_id)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            item = self._read(item_id)
            found = self._known[item_id] = (item, direction(item or Item(item_id)))
        return found


class HotRows:
    """Rows by person; `log` is the name of the event log in Redis."""

    def __init__(self, people: People, facts: Facts, log: int) -> None:
        self._people = people
        self._facts = facts
        self.log = log

    def row(self, person: Person) -> Row | None:
        """None of somebody who did nothing."""
        owner, acts = self._people.acts(person)
        if owner.user_id and not person.user_id:
            link = pack_link(self.log, self._people.watermark, owner.user_id)
            return Row(person, link, SESSIONS.key(person.session_id), feast_gone=SESSIONS.fields)
        if not len(acts):
            return None
        state = self._people.state_from(person, acts)
        layout = USERS if person.user_id else SESSIONS
        (view,) = layout.views
        cells = view.row(UserView(state, Context(), self._facts.item))
        at_ns = round(float(acts.at[-1]) * 1e6) * 1_000
        return Row(
            person,
            pack(self._hot(acts, state)),
            layout.key(person.user_id or person.session_id),
            layout.row(view, cells, at_ns),
            0 if person.user_id else view.lasts_s,
        )

    def _hot(self, acts: Acts, state: UserState) -> HotState:
        last = acts.take(slice(-ACTS, None))
        ids = self._people.item_ids(last.item)
        begins = session_begins(last.at)
        return HotState(
            log=self.log,
            position=state.watermark,
            acts=LastActs(ids, last.type, last.at, last.value, last.quantity.astype(np.int32), last.log_position),
            counts=tuple(np.bincount(acts.type, minlength=len(TYPES)).tolist()),
            seen=state.seen,
            seen_tail=state.seen_tail,
            session_at=float(last.at[begins]),
            taste=taste(ids[begins:], last.type[begins:], last.at[begins:], self._facts.direction),
            traits=state.traits,
        )
