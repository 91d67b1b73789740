"""Hot states in Redis, and the stream of changed items: one thread's calls to one server, each bounded by a time-out.

A server that was frozen carries out, when it thaws, what connections sent that were given up long ago. So each state is
written by a script that refuses it where a newer one is, and the mark moves only from where the writer believes it is.
The script of a person touches two keys: a single server (with replicas), not a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from winnow.errors import InvalidArgument
from winnow.hot_state import KEPT_S, MARK, HotState, Mark, key_of, linked_user, log_of, unpack
from winnow.redis import connect, translated
from winnow.types import Person

PERSON = """
local old = redis.call('GETRANGE', KEYS[1], 6, 21)
if #old == 16 and string.sub(old, 1, 8) == string.sub(ARGV[1], 7, 14) and
    struct.unpack('<I8', string.sub(old, 9)) > struct.unpack('<I8', string.sub(ARGV[1], 15, 22)) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[3] == '-1' then
  redis.call('HDEL', KEYS[2], unpack(ARGV, 4))
else
  redis.call('HSET', KEYS[2], unpack(ARGV, 4))
  if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[2], ARGV[3]) end
end
return 1
"""
MOVE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
CHANGES = b"winnow:items"
CHANGES_KEPT = 10_000  # entries, about


@dataclass(frozen=True, slots=True)
class Row:
    """What is written of one person: a packed state or link, and the row of their features in Feast's layout, which
    Redis forgets after `feast_kept_s` (0: never). Without a row, `feast_gone` are the fields that are to go."""

    person: Person
    packed: bytes
    feast_key: bytes
    feast_row: Mapping[bytes, bytes] = field(default_factory=dict)
    feast_kept_s: int = 0
    feast_gone: Sequence[bytes] = ()

    def call(self) -> list[Any]:
        """The script's keys and arguments."""
        words = self.feast_gone or [word for pair in self.feast_row.items() for word in pair]
        kept_s = -1 if self.feast_gone else self.feast_kept_s
        return [2, key_of(self.person), self.feast_key, self.packed, KEPT_S, kept_s, *words]


def kept_in(packed: bytes | None) -> HotState | str | None:
    """A state, or the id of the user that a session belongs to. What does not check out is nothing."""
    try:
        if user_id := linked_user(packed or b""):
            return Person(user_id).user_id
        return unpack(packed) if packed else None
    except InvalidArgument:
        return None


class HotStore:
    """Every method raises Unavailable or DeadlineExceeded where Redis does not answer as it should."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._client: Any = connect(url, timeout_s)

    def mark(self) -> Mark | None:
        with translated("read_mark"):
            return Mark.read(self._client.get(MARK))

    def run_id(self) -> str:
        """Another one after every start of the server."""
        with translated():
            return str(self._client.info("server")["run_id"])

    def write(self, rows: Sequence[Row], move: tuple[Mark | None, Mark] | None = None) -> bool:
        """Write states, then move the mark; False where the mark was not where it should be."""
        pipe = self._client.pipeline(transaction=False)
        for row in rows:
            pipe.execute_command("EVAL", PERSON, *row.call())
        if move is not None:
            before, after = move
            pipe.execute_command("EVAL", MOVE, 1, MARK, bytes(before) if before else b"", bytes(after))
        with translated("write_states"):
            replies = pipe.execute()
        return move is None or replies[-1] == 1

    def begin(self, mark: Mark) -> None:
        """Set the mark whatever it was: nothing below it is known to be there."""
        with translated():
            self._client.set(MARK, bytes(mark))

    def read(self, person: Person) -> HotState | None:
        """The state under the person's user id, or else under their session; None where there is none."""
        with translated():
            kept = kept_in(self._client.get(key_of(person)))
            if isinstance(kept, str):
                kept = kept_in(self._client.get(key_of(Person(kept))))
        return kept if isinstance(kept, HotState) else None

    def known(self, people: Sequence[Person]) -> tuple[Mark | None, dict[Person, HotState | str]]:
        """The mark, and what is kept under each of these users or sessions: a state, or the user id that a session
        belongs to. Nothing that is not of the mark's log. One moment's answer."""
        with translated("read_states"):
            word, *words = self._client.mget([MARK, *map(key_of, people)])
        mark, known = Mark.read(word), {}
        for person, packed in zip(people, words, strict=True):
            if mark and packed and log_of(packed) == mark.log and (kept := kept_in(packed)) is not None:
                known[person] = kept
        return mark, known

    def tell(self, watermark: int) -> None:
        """Add a write of the catalogue to the stream: the item log's position then."""
        with translated("tell_items"):
            self._client.xadd(CHANGES, {"watermark": watermark}, maxlen=CHANGES_KEPT, approximate=True)

    def close(self) -> None:
        self._client.close()
