"""What comes in: the JSON of requests, validated, and its way to the platform's words.

The words check themselves, so both faces refuse alike; the models add what JSON can get wrong by itself, and describe
the requests in the OpenAPI document.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Strict, Tag
from pydantic_core import PydanticCustomError

from winnow import filters
from winnow.errors import InvalidArgument
from winnow.filters import MAX_DEPTH, TOO_DEEP, Filter, check_filter
from winnow.image_vectors import LARGEST, MAX_WIDTH, packed
from winnow.requests import MAX_OFFSET, RecommendRequest, SimilarRequest, TrendingRequest
from winnow.types import (
    EARLIEST,
    MAX_CATEGORIES,
    MAX_EVENTS,
    MAX_ID,
    MAX_ITEMS,
    MAX_N,
    MAX_QUERY,
    MAX_TEXT,
    MAX_USERS,
    Context,
    Event,
    EventType,
    Item,
    Person,
)


class Body(BaseModel):
    """What comes in: unknown fields are refused by name, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="null")


N = Annotated[int, Field(ge=1, le=MAX_N, description="how many items")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="how many of the best to leave out (pagination)")]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
MaybeId = Annotated[str, Field(max_length=MAX_ID)]
Ids = Annotated[list[Id], Field(description="item ids")]
Token = Annotated[
    str, Field(max_length=64, description="of an answer to events: this answer says whether it includes them")
]
LOOKED_FOR = (
    "free text to look for: how well an item's words match counts in the order, much (WINNOW_QUERY_WEIGHT) but not alone, "
    "and at the default weight an item with exactly this title comes first; items that match name `text` among their sources"
)
VARIED = (
    "how much it counts that items are unlike each other, against their scores: 0 not at all, 1 alone; the platform's default "
    "(WINNOW_SLATE_DIVERSITY) where absent"
)
IMAGE_VECTOR = (
    "what the image looks like, by a model of yours (CLIP or the like): as many numbers for every item, best of length 1. The "
    "item tower of a model trained with `--fusion` reads it. No answer has it; a write without it takes it away"
)
Exact = Strict()
"""A number in JSON is a number: neither "10" nor true."""
ImageNumber = Annotated[float, Exact, Field(ge=-LARGEST, le=LARGEST)]


# ---------------------------------------------------------------------------------------------- filters


class AllOf(Body):
    all: list[FilterIn] = Field(description="every part matches")


class AnyOf(Body):
    any: list[FilterIn] = Field(description="at least one part matches")


class NotOf(Body):
    not_: FilterIn = Field(alias="not", description="the part does not match")


class TermIn(Body):
    field: str = Field(examples=["categories"], description="categories, brand, price, available, attributes.NAME …")
    op: filters.Op
    values: list[str] | None = Field(None, description="for `in`: any of these")
    number: Annotated[float, Exact] | None = Field(
        None, description="for `lt`, `le`, `gt`, `ge`; created_at in seconds since 1970"
    )
    flag: Annotated[bool, Exact] | None = Field(None, description="for `is`; true where absent")


OPERANDS = {filters.Op.IN: "values", filters.Op.IS: "flag"}
"""What an operator compares with; the others with `number`."""


def kind_of(value: Any) -> str:
    keys = value if isinstance(value, dict) else {}
    return next((key for key in ("all", "any", "not") if key in keys), "term")


FilterIn = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[NotOf, Tag("not")]
    | Annotated[TermIn, Tag("term")],
    Discriminator(kind_of),
]


def shallow(tree: Any) -> Any:
    """The tree as it came, refused before recursion walks it when it is too deep."""
    level = [tree]
    for _ in range(MAX_DEPTH):
        level = [part for one in level for part in inside(one)]
    if level:
        raise PydanticCustomError("too_deep", TOO_DEEP)
    return tree


def inside(tree: Any) -> list[Any]:
    """The parts of a filter's JSON."""
    if not isinstance(tree, dict):
        return []
    lists = [tree[key] for key in ("all", "any") if isinstance(tree.get(key), list)]
    return [*chain.from_iterable(lists), *([tree["not"]] if "not" in tree else [])]


Tree = Annotated[FilterIn | None, BeforeValidator(shallow)]


def filter_of(tree: AllOf | AnyOf | NotOf | TermIn | None) -> Filter | None:
    """The platform's filter; InvalidArgument names the field of a term that makes no sense."""
    if tree is None:
        return None
    found = filter_part(tree)
    check_filter(found)
    return found


def filter_part(tree: AllOf | AnyOf | NotOf | TermIn) -> Filter:
    match tree:
        case AllOf():
            return filters.All(tuple(filter_part(part) for part in tree.all))
        case AnyOf():
            return filters.Any(tuple(filter_part(part) for part in tree.any))
        case NotOf():
            return filters.Not(filter_part(tree.not_))
        case TermIn():
            return term_of(tree)


def term_of(term: TermIn) -> filters.Term:
    """InvalidArgument where the operator's own operand is missing, or another one is there."""
    wants = OPERANDS.get(term.op, "number")
    for name in ("values", "number", "flag"):
        if name != wants and getattr(term, name) is not None:
            raise InvalidArgument(f"{term.op} takes {wants}, not {name}", field=f"filter.{term.field}.{name}")
    if wants == "number" and term.number is None:
        raise InvalidArgument(f"{term.op} needs a number", field=f"filter.{term.field}.number")
    flag = True if term.flag is None else term.flag
    return filters.Term(term.field, term.op, tuple(term.values or ()), term.number or 0.0, flag)


# ---------------------------------------------------------------------------------------------- requests


class ContextIn(Body):
    surface: MaybeId = Field("", examples=["home"])
    device: MaybeId = Field("", examples=["phone"])
    country: MaybeId = Field("", examples=["GB"])
    at: AwareDatetime | None = Field(None, description="when; now where absent")

    def word(self) -> Context:
        return Context(self.surface, self.device, self.country, self.at)


class RecommendIn(Body):
    """Whom to recommend what. Give a user_id or a session_id."""

    user_id: MaybeId = Field("", examples=["405"])
    session_id: MaybeId = ""
    n: Annotated[N, Exact] = 10
    offset: Annotated[Offset, Exact] = 0
    context: ContextIn = ContextIn()
    query: str = Field("", max_length=MAX_QUERY, description=LOOKED_FOR)
    filter: Tree = None
    exclude: Ids = []
    objectives: dict[Literal["click", "convert", "value"], Annotated[float, Exact]] = Field(
        default_factory=dict, description="weight per prediction; the platform's default where empty"
    )
    explain: Annotated[bool, Exact] = True
    include_seen: Annotated[bool, Exact] = Field(
        False, description="let items come back that the person acted on already"
    )
    token: Token = ""
    diversity: Annotated[float, Exact] | None = Field(None, ge=0, le=1, description=VARIED)

    def word(self) -> RecommendRequest:
        return RecommendRequest(
            person=Person(self.user_id, self.session_id),
            n=self.n,
            offset=self.offset,
            context=self.context.word(),
            query=self.query,
            filter=filter_of(self.filter),
            exclude=tuple(self.exclude),
            objectives={str(head): weight for head, weight in self.objectives.items()},
            explain=self.explain,
            include_seen=self.include_seen,
            token=self.token,
            diversity=self.diversity,
        )


class ShortIn(Body):
    """The short form, in a link."""

    user_id: MaybeId = Field("", examples=["405"])
    session_id: MaybeId = ""
    n: N = 10
    offset: Offset = 0
    token: Token = ""

    def word(self) -> RecommendRequest:
        person = Person(self.user_id, self.session_id)
        return RecommendRequest(person, n=self.n, offset=self.offset, token=self.token)


class SimilarShortIn(Body):
    n: N = 10
    offset: Offset = 0
    exclude: Ids = []

    def word(self, item_id: str) -> SimilarRequest:
        return SimilarRequest((item_id,), self.n, self.offset, None, tuple(self.exclude))


class TrendingShortIn(Body):
    """For everybody; with a person, without what they have seen."""

    user_id: MaybeId = Field("", examples=["405"])
    session_id: MaybeId = ""
    n: N = 10
    offset: Offset = 0
    exclude: Ids = []

    def word(self) -> TrendingRequest:
        person = Person(self.user_id, self.session_id) if self.user_id or self.session_id else None
        return TrendingRequest(self.n, self.offset, person, None, tuple(self.exclude))


class BatchIn(Body):
    requests: list[RecommendIn] = Field(min_length=1, max_length=MAX_USERS)

    def word(self) -> list[RecommendRequest]:
        return [within(f"requests[{n}]", request) for n, request in enumerate(self.requests)]


class SimilarIn(Body):
    item_ids: Ids = Field(min_length=1, max_length=MAX_N, description="one item, or a basket")
    n: Annotated[N, Exact] = 10
    offset: Annotated[Offset, Exact] = 0
    filter: Tree = None
    exclude: Ids = []

    def word(self) -> SimilarRequest:
        return SimilarRequest(tuple(self.item_ids), self.n, self.offset, filter_of(self.filter), tuple(self.exclude))


class EventIn(Body):
    """One thing that happened. Sending an event_id twice counts once."""

    event_id: Id = Field(examples=["3f0c…"], description="made by the client")
    type: EventType
    item_id: Id = Field(examples=["50"])
    occurred_at: AwareDatetime | None = Field(None, description="now where absent")
    user_id: MaybeId = Field("", examples=["405"])
    session_id: MaybeId = ""
    value: Annotated[float, Exact] | None = Field(None, description="the rating, or the unit price")
    quantity: Annotated[int, Exact] = Field(1, ge=1, le=1_000_000)
    request_id: MaybeId = Field("", description="of the answer that led here")
    position: Annotated[int, Exact] | None = Field(None, ge=1, le=10_000, description="1-based place on the page")
    context: dict[str, str] = Field(default_factory=dict)

    def word(self) -> Event:
        return Event(**{**dict(self), "occurred_at": self.occurred_at or datetime.now(UTC)})


class EventsIn(Body):
    events: list[EventIn] = Field(min_length=1, max_length=MAX_EVENTS)

    def word(self) -> list[Event]:
        return [within(f"events[{n}]", event) for n, event in enumerate(self.events)]


EventBody = Annotated[
    Annotated[EventsIn, Tag("events")] | Annotated[EventIn, Tag("event")],
    Discriminator(lambda value: "events" if isinstance(value, dict) and "events" in value else "event"),
]


class ItemFacts(Body):
    """What is known of an item; what is absent is unknown."""

    title: str = Field("", max_length=1_000)
    description: str = Field("", max_length=MAX_TEXT)
    categories: list[Id] = Field(default_factory=list, max_length=MAX_CATEGORIES)
    brand: MaybeId = ""
    price: Annotated[float, Exact] | None = Field(None, ge=0)
    currency: str = Field("", examples=["GBP"], description="ISO 4217")
    image_url: str = Field("", max_length=2_000)
    created_at: AwareDatetime | None = Field(
        None, description="where absent what is known of the item, or the moment of the write"
    )
    available: Annotated[bool, Exact] = True
    attributes: dict[Id, str] = Field(default_factory=dict)
    image_vector: list[ImageNumber] = Field(default_factory=list, max_length=MAX_WIDTH, description=IMAGE_VECTOR)

    def item(self, item_id: str) -> Item:
        facts = {name: value for name, value in dict(self).items() if name != "item_id"}
        facts |= {"categories": tuple(self.categories), "created_at": self.created_at or EARLIEST}
        facts |= {"image_vector": packed(self.image_vector)}
        return Item(item_id=item_id, **facts)


class ItemIn(ItemFacts):
    item_id: Id = Field(examples=["50"])

    def word(self) -> Item:
        return self.item(self.item_id)


class ItemsIn(Body):
    items: list[ItemIn] = Field(min_length=1, max_length=MAX_ITEMS)

    def word(self) -> list[Item]:
        return [within(f"items[{n}]", item) for n, item in enumerate(self.items)]


def within(place: str, body: Any) -> Any:
    """The body's word; an error in it names its place in the list."""
    try:
        return body.word()
    except InvalidArgument as wrong:
        raise InvalidArgument(wrong.detail, field=f"{place}.{wrong.field}") from wrong
