"""What goes into the gateway and what comes out of it, for both faces alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from winnow.errors import InvalidArgument
from winnow.filters import Filter
from winnow.tokens import watermark_of
from winnow.types import (
    HEADS,
    MAX_EXCLUDE,
    MAX_N,
    MAX_QUERY,
    Context,
    Item,
    Person,
    Reason,
    check_id,
    check_number,
    check_text,
)

MAX_OFFSET = 400  # pages end where the ranked candidates end


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """Ask for `n` items for one person.

    `objectives` weighs the heads (click, convert, value); empty means the platform's default. `offset` skips the first
    items of the ranked list (pagination). `include_seen` lets items come back that the person acted on already. `token`
    is that of a receipt: the answer says whether it includes those events. `diversity` is how much unlikeness of its
    items counts against their scores, 0 (not at all) to 1; None means the platform's default.
    """

    person: Person
    n: int = 10
    offset: int = 0
    context: Context = field(default_factory=Context)
    query: str = ""
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)
    explain: bool = True
    include_seen: bool = False
    token: str = ""
    diversity: float | None = None

    def __post_init__(self) -> None:
        check_page(self.n, self.offset)
        if self.token:
            watermark_of(self.token)
        check_text(self.query, "query", MAX_QUERY)
        check_exclude(self.exclude)
        check_number(self.diversity, "diversity", low=0, high=1)
        for name, weight in self.objectives.items():
            if name not in HEADS:
                raise InvalidArgument(f"unknown objective; known are {', '.join(HEADS)}", field=f"objectives.{name}")
            check_number(weight, f"objectives.{name}", low=-1000, high=1000)
        if self.objectives and not any(self.objectives.values()):
            raise InvalidArgument("at least one weight must not be zero", field="objectives")


@dataclass(frozen=True, slots=True)
class SimilarRequest:
    """Ask for `n` items that go with one item, or with a basket of items."""

    item_ids: tuple[str, ...]
    n: int = 10
    offset: int = 0
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_page(self.n, self.offset)
        check_exclude(self.exclude)
        if not 1 <= len(self.item_ids) <= MAX_N:
            raise InvalidArgument(f"between 1 and {MAX_N} items", field="item_ids")
        for n, item_id in enumerate(self.item_ids):
            check_id(item_id, f"item_ids[{n}]")


@dataclass(frozen=True, slots=True)
class TrendingRequest:
    """Ask for the `n` items most acted on lately; with a person, without those they have seen."""

    n: int = 10
    offset: int = 0
    person: Person | None = None
    filter: Filter | None = None
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_page(self.n, self.offset)
        check_exclude(self.exclude)


@dataclass(frozen=True, slots=True)
class Recommended:
    """One line of an answer. `predictions` is None when nobody ranked; `item` is None when its facts are unknown."""

    item_id: str
    rank: int
    score: float
    predictions: Mapping[str, float] | None
    sources: tuple[str, ...]
    reason: Reason | None
    item: Item | None


@dataclass(frozen=True, slots=True)
class Watermarks:
    """How new an answer is: log positions of the newest event, of the newest event in the features and of the newest
    item that it includes, and the bundle of each model. 0 and empty mean: not known."""

    events: int = 0
    features: int = 0
    catalogue: int = 0
    bundles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request, and its own account: what was used, what was skipped, how long each stage took.

    `skipped` names optional stages that failed or were late (`retrieval.<source>` for a lost source, `arrange.<stage>` for
    a stage of the slate that lacked what it compares); `watermark` is
    the log position of the newest event the answer includes; `took_ms` is milliseconds per stage and `total`.
    `token_included` says whether the events of the request's token are in it; None where the request had none.
    """

    request_id: str
    items: tuple[Recommended, ...]
    bundles: Mapping[str, str]
    variant: str
    skipped: tuple[str, ...]
    watermark: int
    took_ms: Mapping[str, float]
    watermarks: Watermarks = field(default_factory=Watermarks)
    token_included: bool | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a service can do its work; `missing` says in words what it lacks."""

    ready: bool
    missing: tuple[str, ...] = ()


def check_page(n: int, offset: int) -> None:
    if not 1 <= n <= MAX_N:
        raise InvalidArgument(f"must be between 1 and {MAX_N}", field="n")
    if not 0 <= offset <= MAX_OFFSET:
        raise InvalidArgument(f"must be between 0 and {MAX_OFFSET}", field="offset")


def check_exclude(exclude: tuple[str, ...]) -> None:
    if len(exclude) > MAX_EXCLUDE:
        raise InvalidArgument(f"at most {MAX_EXCLUDE} ids", field="exclude")
    for n, item_id in enumerate(exclude):
        check_id(item_id, f"exclude[{n}]")
