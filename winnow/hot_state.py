"""What Redis holds of one person beside the features: their last acts, what they have seen, counters, the session's
taste, their traits.

    winnow:hot:mark                 "<log>:<position>"     the log that was written through, and up to where
    winnow:hot:user:<user_id>       a packed state         of everything under that user, their sessions included
    winnow:hot:session:<session_id> a packed state, or a link to the user that the session belongs to

Both are little-endian and begin alike: what it is, of which log, and up to which position it is complete. So a state that
another platform left behind is told apart, and one that comes late never replaces a newer one. Nothing in it is executed
or trusted: what does not check out is no state. Knows bytes, not Redis.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow.acts import NAMES, TYPES
from winnow.errors import InvalidArgument
from winnow.session_taste import DIMENSIONS
from winnow.types import HISTORY, Bits, Floats, History, Person, Strings, UserState, same_length, strings

MARK = b"winnow:hot:mark"
ACTS = 200  # the last ones kept
KEPT_S = 90 * 86_400  # a person silent for so long is no longer hot; the log knows them still
STATE, LINK = b"WHOT2\n", b"WHOT2>"
BEGIN = struct.Struct("<6sQQ")
HEADER = struct.Struct("<6sQQdHIIH6I")
SEPARATOR = "\0"  # no id contains it (`winnow.types.check_text`); a trait that does is left out
MAX_TRAITS = 1_000


@dataclass(frozen=True, slots=True)
class Mark:
    """Redis holds everything of the log named `log` up to `position`."""

    log: int
    position: int

    def __bytes__(self) -> bytes:
        return f"{self.log:016x}:{self.position}".encode()

    @classmethod
    def read(cls, text: bytes | None) -> Mark | None:
        """None where there is none, or nothing that a platform wrote."""
        log, _, position = (text or b"").partition(b":")
        try:
            return cls(int(log, 16), int(position))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True, eq=False)
class LastActs:
    """The newest acts as columns, in log order; `types` are places in `TYPES`."""

    item_ids: Strings
    types: npt.NDArray[np.int8]
    at: npt.NDArray[np.float64]  # seconds since 1970
    values: Floats  # NaN where the event had none
    quantities: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int64]  # in the log

    def __post_init__(self) -> None:
        same_length(**{column.name: getattr(self, column.name) for column in fields(self)})

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True, eq=False)
class HotState:
    """One person. `counts` is per event type over all their acts; `seen` and `seen_tail` are those of `UserState`;
    `taste` is that of the session that began at `session_at`."""

    log: int
    position: int
    acts: LastActs
    counts: tuple[int, ...]
    seen: Strings
    seen_tail: Bits
    session_at: float
    taste: Floats
    traits: Mapping[str, str] = field(default_factory=dict)

    @property
    def events(self) -> int:
        return sum(self.counts)

    def user_state(self, person: Person, watermark: int) -> UserState:
        """What the feature service would say of `person`, complete up to `watermark`."""
        last, newest = self.acts, slice(-HISTORY, None)
        return UserState(
            person=person,
            known=bool(self.events or self.traits),
            traits=self.traits,
            history=History(last.item_ids[newest], NAMES[last.types[newest]], last.values[newest], last.at[newest]),
            seen=self.seen,
            seen_tail=self.seen_tail,
            events=self.events,
            watermark=watermark,
        )


FLOAT, PRINT = np.dtype("<f4"), np.dtype("<u4")
COLUMNS: tuple[tuple[str, Any], ...] = (
    ("at", np.dtype("<f8")),
    ("positions", np.dtype("<i8")),
    ("values", FLOAT),
    ("quantities", np.dtype("<i4")),
    ("types", np.dtype("i1")),
)


def key_of(person: Person) -> bytes:
    """Of a user where they are known, else of the session."""
    if person.user_id:
        return f"winnow:hot:user:{person.user_id}".encode()
    return f"winnow:hot:session:{person.session_id}".encode()


def pack(state: HotState) -> bytes:
    traits = [pair for pair in state.traits.items() if SEPARATOR not in "".join(pair)][:MAX_TRAITS]
    sizes = len(state.acts), len(state.seen), len(state.seen_tail), len(traits)
    header = HEADER.pack(STATE, state.log, state.position, state.session_at, *sizes, *state.counts)
    columns = (np.asarray(getattr(state.acts, name), dtype).tobytes() for name, dtype in COLUMNS)
    tail = np.asarray(state.seen_tail, PRINT).tobytes()
    names = SEPARATOR.join([*state.acts.item_ids, *state.seen, *chain.from_iterable(traits)]).encode()
    return b"".join((header, np.asarray(state.taste, FLOAT).tobytes(), *columns, tail, names))


def unpack(packed: bytes) -> HotState:
    """InvalidArgument for anything that `pack` cannot have made."""
    if len(packed) < HEADER.size or packed[: len(STATE)] != STATE:
        raise InvalidArgument("no hot state")
    _, log, position, session_at, acts, seen, tail, told, *counts = HEADER.unpack_from(packed)
    sizes = {name: (dtype, acts) for name, dtype in COLUMNS}
    columns, at = {}, HEADER.size
    for name, (dtype, size) in {"taste": (FLOAT, DIMENSIONS), **sizes, "tail": (PRINT, tail)}.items():
        ends = at + dtype.itemsize * size
        if ends > len(packed):
            raise InvalidArgument("a hot state is cut short")
        columns[name] = np.frombuffer(packed, dtype, size, at)
        at = ends
    names = names_in(packed[at:], acts + seen + 2 * told)
    ids, words = strings(names[: acts + seen]), names[acts + seen :]
    traits = dict(zip(words[::2], words[1::2], strict=True))
    taste, seen_tail = columns.pop("taste"), columns.pop("tail")
    if columns["types"].view(np.uint8).max(initial=0) >= len(TYPES):
        raise InvalidArgument("a hot state holds acts of no known type")
    last = LastActs(item_ids=ids[:acts], **columns)
    return HotState(log, position, last, tuple(counts), ids[acts:], seen_tail, session_at, taste, traits)


def names_in(text: bytes, size: int) -> Sequence[str]:
    try:
        names = text.decode().split(SEPARATOR) if size else []
    except UnicodeDecodeError as wrong:
        raise InvalidArgument("a hot state names items in no known writing") from wrong
    if len(names) != size or (not size and text):
        raise InvalidArgument("a hot state names more or fewer items than it has")
    return names


def pack_link(log: int, position: int, user_id: str) -> bytes:
    """What stands in a session's place once its user is known."""
    return BEGIN.pack(LINK, log, position) + user_id.encode()


def log_of(packed: bytes) -> int | None:
    """The log that a state or a link is of."""
    return BEGIN.unpack_from(packed)[1] if len(packed) >= BEGIN.size else None


def linked_user(packed: bytes) -> str:
    """The user that a session belongs to; "" where `packed` is a state, or no link at all."""
    return packed[BEGIN.size :].decode(errors="replace") if packed[: len(LINK)] == LINK else ""
