"""A recorder of ten lines: spans that are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from winnow.tracing import Attributes, Kind, TraceContext, Tracer, record_with


@dataclass
class Kept:
    """A recorder's span that is looked at."""

    name: str
    kind: Kind
    parent: TraceContext | None
    context: TraceContext
    attributes: dict[str, object] = field(default_factory=dict)
    error: str = "open"

    def rename(self, name: str) -> None:
        self.name = name

    def end(self, attributes: Attributes, error: str) -> None:
        self.attributes |= attributes
        self.error = error


class Keeper:
    def __init__(self) -> None:
        self.spans: list[Kept] = []

    def begin(self, name: str, kind: Kind, parent: TraceContext | None, trace_id: str, attributes: Attributes) -> Kept:
        own = TraceContext(trace_id, f"{len(self.spans) + 1:016x}", True)
        self.spans.append(Kept(name, kind, parent, own, dict(attributes)))
        return self.spans[-1]


@contextmanager
def keeping(ratio: float = 1.0) -> Iterator[Keeper]:
    """Everything that is sampled meanwhile."""
    keeper = Keeper()
    record_with(Tracer(keeper, ratio, 1_000_000))
    try:
        yield keeper
    finally:
        record_with(None)
