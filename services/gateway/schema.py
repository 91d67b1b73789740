"""The REST face's JSON: what comes in (validated, unknown fields refused) and what goes out (documented).

Requests become the platform's words in one place, here; the words check themselves, so both faces refuse alike.
Answers are built as plain dictionaries: the models below describe them in the OpenAPI document and are not run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Tag

from winnow import filters
from winnow.errors import InvalidArgument
from winnow.filters import Filter, check_filter
from winnow.requests import MAX_OFFSET, Answer, Recommended, RecommendRequest, SimilarRequest
from winnow.types import (
    EARLIEST,
    HEADS,
    MAX_EVENTS,
    MAX_ITEMS,
    MAX_N,
    MAX_QUERY,
    MAX_USERS,
    Context,
    Event,
    EventType,
    Item,
    Person,
    Receipt,
)


class Strict(BaseModel):
    """A body: unknown fields are refused by name, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="null")


N = Annotated[int, Field(ge=1, le=MAX_N, description="how many items")]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET, description="how many of the best to leave out (pagination)")]
Ids = Annotated[list[str], Field(description="item ids")]


# ---------------------------------------------------------------------------------------------- filters


class AllOf(Strict):
    all: list[FilterIn] = Field(description="every part matches")


class AnyOf(Strict):
    any: list[FilterIn] = Field(description="at least one part matches")


class NotOf(Strict):
    not_: FilterIn = Field(alias="not", description="the part does not match")


class TermIn(Strict):
    field: str = Field(examples=["categories"], description="categories, brand, price, available, attributes.NAME …")
    op: filters.Op
    values: list[str] = Field(default_factory=list, description="for `in`: any of these")
    number: float = Field(0.0, description="for `lt`, `le`, `gt`, `ge`; created_at in seconds since 1970")
    flag: bool = Field(True, description="for `is`")


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
            return filters.Term(tree.field, tree.op, tuple(tree.values), tree.number, tree.flag)


# ---------------------------------------------------------------------------------------------- requests


class ContextIn(Strict):
    surface: str = Field("", examples=["home"])
    device: str = Field("", examples=["phone"])
    country: str = Field("", examples=["GB"])
    at: AwareDatetime | None = Field(None, description="when; now where absent")

    def word(self) -> Context:
        return Context(self.surface, self.device, self.country, self.at)


class RecommendIn(Strict):
    """Whom to recommend what. Give a user_id or a session_id."""

    user_id: str = Field("", examples=["405"])
    session_id: str = ""
    n: N = 10
    offset: Offset = 0
    context: ContextIn = ContextIn()
    query: str = Field("", max_length=MAX_QUERY, description="free text to look for")
    filter: FilterIn | None = None
    exclude: Ids = []
    objectives: dict[Literal["click", "convert", "value"], float] = Field(
        default_factory=dict, description="weight per prediction; the platform's default where empty"
    )
    explain: bool = True
    include_seen: bool = Field(False, description="let items come back that the person acted on already")

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
        )


class BatchIn(Strict):
    requests: list[RecommendIn] = Field(min_length=1, max_length=MAX_USERS)

    def word(self) -> list[RecommendRequest]:
        return [within(f"requests[{n}]", request) for n, request in enumerate(self.requests)]


class SimilarIn(Strict):
    item_ids: Ids = Field(min_length=1, max_length=MAX_N, description="one item, or a basket")
    n: N = 10
    offset: Offset = 0
    filter: FilterIn | None = None
    exclude: Ids = []

    def word(self) -> SimilarRequest:
        return SimilarRequest(tuple(self.item_ids), self.n, self.offset, filter_of(self.filter), tuple(self.exclude))


class EventIn(Strict):
    """One thing that happened. Sending an event_id twice counts once."""

    event_id: str = Field(examples=["3f0c…"], description="made by the client")
    type: EventType
    item_id: str = Field(examples=["50"])
    occurred_at: AwareDatetime | None = Field(None, description="now where absent")
    user_id: str = Field("", examples=["405"])
    session_id: str = ""
    value: float | None = Field(None, description="the rating, or the unit price")
    quantity: int = 1
    request_id: str = Field("", description="of the answer that led here")
    position: int | None = Field(None, description="1-based place on the page")
    context: dict[str, str] = Field(default_factory=dict)

    def word(self) -> Event:
        return Event(**{**dict(self), "occurred_at": self.occurred_at or datetime.now(UTC)})


class EventsIn(Strict):
    events: list[EventIn] = Field(min_length=1, max_length=MAX_EVENTS)

    def word(self) -> list[Event]:
        return [within(f"events[{n}]", event) for n, event in enumerate(self.events)]


EventBody = Annotated[
    Annotated[EventsIn, Tag("events")] | Annotated[EventIn, Tag("event")],
    Discriminator(lambda value: "events" if isinstance(value, dict) and "events" in value else "event"),
]


class ItemFacts(Strict):
    """What is known of an item; what is absent is unknown."""

    title: str = ""
    description: str = ""
    categories: list[str] = Field(default_factory=list)
    brand: str = ""
    price: float | None = None
    currency: str = Field("", examples=["GBP"], description="ISO 4217")
    image_url: str = ""
    created_at: AwareDatetime | None = None
    available: bool = True
    attributes: dict[str, str] = Field(default_factory=dict)

    def item(self, item_id: str) -> Item:
        facts = {name: value for name, value in dict(self).items() if name != "item_id"}
        facts |= {"categories": tuple(self.categories), "created_at": self.created_at or EARLIEST}
        return Item(item_id=item_id, **facts)


class ItemIn(ItemFacts):
    item_id: str = Field(examples=["50"])

    def word(self) -> Item:
        return self.item(self.item_id)


class ItemsIn(Strict):
    items: list[ItemIn] = Field(min_length=1, max_length=MAX_ITEMS)

    def word(self) -> list[Item]:
        return [within(f"items[{n}]", item) for n, item in enumerate(self.items)]


def within(place: str, body: Any) -> Any:
    """The body's word; an error in it names its place in the list."""
    try:
        return body.word()
    except InvalidArgument as wrong:
        raise InvalidArgument(wrong.detail, field=f"{place}.{wrong.field}") from wrong


# ---------------------------------------------------------------------------------------------- answers


class ItemOut(BaseModel):
    item_id: str
    title: str
    description: str
    categories: list[str]
    brand: str
    price: float | None
    currency: str
    image_url: str
    created_at: str
    available: bool
    attributes: dict[str, str]


class ShownItem(BaseModel):
    title: str
    categories: list[str]
    price: float | None
    currency: str
    image_url: str


class PredictionsOut(BaseModel):
    click: float
    convert: float
    value: float


class ReasonOut(BaseModel):
    text: str
    fact: str = Field(description="the kind of claim")
    evidence: list[str] = Field(description="the ids or words that make it true")


class RecommendedOut(BaseModel):
    item_id: str
    rank: int
    score: float
    predictions: PredictionsOut | None = Field(description="null when nobody ranked")
    sources: list[str]
    reason: ReasonOut | None
    item: ShownItem | None


class AnswerOut(BaseModel):
    request_id: str
    items: list[RecommendedOut]
    bundles: dict[str, str]
    variant: str
    skipped: list[str] = Field(description="stages that failed or were late")
    watermark: int = Field(description="log position of the newest event included")
    took_ms: dict[str, float] = Field(description="milliseconds per stage, and total")


class AnswersOut(BaseModel):
    answers: list[AnswerOut]


class ReceiptOut(BaseModel):
    accepted: int
    duplicates: int
    watermark: int = Field(description="log position that a later answer must reach to include it")


class HealthOut(BaseModel):
    status: Literal["ok", "ready"]


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="path of the offending value")
    request_id: str | None = None


def answer_json(answer: Answer) -> dict[str, Any]:
    return {
        "request_id": answer.request_id,
        "items": [line_json(line) for line in answer.items],
        "bundles": answer.bundles,
        "variant": answer.variant,
        "skipped": answer.skipped,
        "watermark": answer.watermark,
        "took_ms": {stage: round(ms, 3) for stage, ms in answer.took_ms.items()},
    }


def line_json(line: Recommended) -> dict[str, Any]:
    reason, item, heads = line.reason, line.item, line.predictions
    return {
        "item_id": line.item_id,
        "rank": line.rank,
        "score": line.score,
        "predictions": None if heads is None else {head: heads[head] for head in HEADS},
        "sources": line.sources,
        "reason": reason and {"text": reason.text, "fact": reason.fact, "evidence": reason.evidence},
        "item": item
        and {
            "title": item.title,
            "categories": item.categories,
            "price": item.price,
            "currency": item.currency,
            "image_url": item.image_url,
        },
    }


def item_json(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "categories": item.categories,
        "brand": item.brand,
        "price": item.price,
        "currency": item.currency,
        "image_url": item.image_url,
        "created_at": item.created_at.isoformat(),
        "available": item.available,
        "attributes": dict(item.attributes),
    }


def receipt_json(receipt: Receipt) -> dict[str, int]:
    return {"accepted": receipt.accepted, "duplicates": receipt.duplicates, "watermark": receipt.watermark}
