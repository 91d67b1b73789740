"""One trace of a request, across stages, processes and topics, in the words of W3C's Trace Context.

    arrive("POST", …)               a call came: its caller's trace goes on, or one begins, or neither
    span("ranking")                 a part of it, below what the current task does
    headers()                       what a peer is told
    carried(), Shared(…)            over to a thread, a record or a batch, and work done there for several requests

Where nothing records, or the request is not sampled, a span costs a look at one variable. Attributes are the platform's
own words and numbers: nothing that names a person, an item or an event, and no message of an error, which may quote one.
Knows no library; `winnow.serving.traces` records and exports.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Protocol
from uuid import uuid4

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
LONGEST = 512  # characters of a header; W3C wants no less of tracestate
PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
ID = re.compile(r"[0-9a-f]{32}")
STATE = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}")
STATES = 32  # members of a tracestate
SAMPLED = 1  # the flag
RANDOM_BITS = 56  # of a trace id, its last: what the decision to sample looks at
MOST = 16  # requests whose traces one piece of shared work enters

Value = str | int | float | bool
Attributes = Mapping[str, Value]
Pairs = tuple[tuple[str, str], ...]


class Kind(Enum):
    """Of a span, as OpenTelemetry has them."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace. `state` is other vendors' word, passed on as it came; `remote`: another process is there."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    remote: bool = False

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def pairs(self) -> Pairs:
        """As headers."""
        own = (TRACEPARENT, self.traceparent)
        return (own, (TRACESTATE, self.state)) if self.state else (own,)


class Open(Protocol):
    """A span that a recorder has begun."""

    @property
    def context(self) -> TraceContext: ...

    def rename(self, name: str) -> None: ...

    def end(self, attributes: Attributes, error: str) -> None:
        """`error` is the kind of what went wrong, "" where nothing did."""
        ...


class Recorder(Protocol):
    """Takes spans; never raises, never waits."""

    def begin(self, name: str, kind: Kind, parent: TraceContext | None, trace_id: str, attributes: Attributes) -> Open:
        """Below `parent`; without one, the first of a trace with this id."""
        ...


class Tracer:
    """Which traces begin in this process, and who records them. Of those that nobody sampled yet it takes the share
    `ratio`, decided by the trace id as every other process would; of all that begin here `per_s` a second at most,
    whatever callers ask for."""

    def __init__(self, recorder: Recorder, ratio: float, per_s: float) -> None:
        self.recorder = recorder
        self._least: int = round((1.0 - ratio) * 2**RANDOM_BITS)
        self._per_s = per_s
        self._room = max(per_s, 1.0)
        self._at = time.monotonic()

    def samples(self, trace_id: str) -> bool:
        """OpenTelemetry's rule for consistent sampling: the last 56 bits against a threshold."""
        return int(trace_id[-RANDOM_BITS // 4 :], 16) >= self._least

    def has_room(self) -> bool:
        """A token bucket that holds a second's worth, one trace at least: 0.1 a second is one in ten seconds."""
        now = time.monotonic()
        self._room = min(max(self._per_s, 1.0), self._room + (now - self._at) * self._per_s)
        self._at = now
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True


_tracer: Tracer | None = None
_current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


def record_with(tracer: Tracer | None) -> None:
    """From now on, in this process; None: nothing is recorded."""
    global _tracer
    _tracer = tracer


def recording() -> bool:
    """Whether this process records at all."""
    return _tracer is not None


def trace_id() -> str:
    """Of the request that the current task serves, sampled or not; "" where there is none."""
    current = _current.get()
    return "" if current is None else current.trace_id


def exemplar() -> dict[str, str] | None:
    """What a metric's exemplar says of the current request: a trace that can be looked up, or nothing."""
    current = carried()
    return None if current is None or _tracer is None else {"trace_id": current.trace_id}


def carried() -> TraceContext | None:
    """The current place, for a task, thread or record that goes on without this one; None where it is not sampled."""
    current = _current.get()
    return current if current is not None and current.sampled else None


def headers() -> Pairs:
    """What a peer is told of the current request, also where nothing is recorded here."""
    current = _current.get()
    return () if current is None else current.pairs


def read(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What a caller sent, None where it is not as W3C says. A later version counts by the part that is known."""
    found = PARENT.fullmatch(traceparent) if len(traceparent) <= LONGEST else None
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(parent, 16):
        return None
    return TraceContext(trace, parent, bool(int(flags, 16) & SAMPLED), state_of(tracestate), remote=True)


def state_of(text: str) -> str:
    """A tracestate that can be passed on, or none of it."""
    members = [member.strip(" \t") for member in text.split(",", STATES)] if len(text) <= LONGEST else ["too long"]
    fits = len(members) <= STATES and all(not member or STATE.fullmatch(member) for member in members)
    return text if fits else ""


class Span:
    """A part of a request that is recorded, from its making to `end`; the current one of its task meanwhile."""

    __slots__ = ("_open", "_token")

    def __init__(self, open: Open) -> None:
        self._open = open
        self._token: Token[TraceContext | None] = _current.set(open.context)

    def rename(self, name: str) -> None:
        """What it is called; known only now."""
        self._open.rename(name)

    def end(self, attributes: Attributes | None = None, error: str = "") -> None:
        """In the task that began it."""
        _current.reset(self._token)
        self._open.end(attributes or {}, error)

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(error="" if kind is None else kind.__name__)


class NoSpan(Span):
    """A part of a request that nobody records."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def end(self, attributes: Attributes | None = None, error: str = "") -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


NOT_RECORDED = NoSpan()
NOTHING: Attributes = {}


def span(name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes = NOTHING) -> Span:
    """Below what the current task does; `with`, or until its `end`."""
    current = _current.get()
    if current is None or not current.sampled or _tracer is None:
        return NOT_RECORDED
    return Span(_tracer.recorder.begin(name, kind, current, current.trace_id, attributes))


def arrive(name: str, traceparent: str, tracestate: str = "", *, own_id: str = "", face: bool = False) -> Span:
    """A call came, to be served by the current task alone. At a `face` of the platform a trace may begin, whose id is
    `own_id` where that is one; behind it only what the caller sampled goes on."""
    caller = read(traceparent, tracestate) if traceparent else None
    tracer = _tracer
    if tracer is None or (caller is None and not face):
        _current.set(caller)
        return NOT_RECORDED
    trace = caller.trace_id if caller else trace_id_of(own_id)
    sampled = caller.sampled if caller else tracer.samples(trace)
    if sampled and (not face or tracer.has_room()):
        return Span(tracer.recorder.begin(name, Kind.SERVER, caller, trace, NOTHING))
    parent = caller.span_id if caller else f"{random.getrandbits(64) | 1:016x}"
    _current.set(TraceContext(trace, parent, False, caller.state if caller else ""))
    return NOT_RECORDED


def trace_id_of(own_id: str) -> str:
    """An id of a request, where it can be a trace's as well; else a new one. The last 56 bits of either are random."""
    return own_id if ID.fullmatch(own_id) and int(own_id, 16) else uuid4().hex


def own_id(request_id: str) -> Attributes:
    """The request's id as an attribute. One that a caller chose may name a person, and is left out."""
    return {"winnow.request_id": request_id} if ID.fullmatch(request_id) else NOTHING


def carried_by(pairs: Iterable[tuple[str, bytes | None]]) -> TraceContext | None:
    """What the headers of a record carry, whoever wrote it; None where it is not sampled."""
    known = {name: value for name, value in pairs if name in (TRACEPARENT, TRACESTATE)}
    if TRACEPARENT not in known:
        return None
    there = read(*((known.get(name) or b"").decode("latin-1") for name in (TRACEPARENT, TRACESTATE)))
    return there if there is not None and there.sampled else None


def carrying(place: TraceContext | None) -> tuple[tuple[str, bytes], ...]:
    """`place` as headers of a record."""
    return () if place is None else tuple((name, text.encode()) for name, text in place.pairs)


class Shared:
    """Work that is done once for several requests: a span in the trace of each, of `MOST` at most."""

    def __init__(self, name: str, kind: Kind, attributes: Attributes = NOTHING) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._open: dict[TraceContext, Open] = {}

    def join(self, parent: TraceContext | None) -> TraceContext | None:
        """Where the work stands in this trace: what others who go on from it are told."""
        tracer = _tracer
        if parent is None or tracer is None or not parent.sampled:
            return parent
        there = self._open.get(parent)
        if there is None:
            if len(self._open) >= MOST:
                return parent
            there = tracer.recorder.begin(self._name, self._kind, parent, parent.trace_id, self._attributes)
            self._open[parent] = there
        return there.context

    def join_all(self, parents: Iterable[TraceContext | None]) -> Shared:
        for parent in parents:
            self.join(parent)
        return self

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for there in self._open.values():
            there.end(NOTHING, "" if kind is None else kind.__name__)
