"""What goes out: the JSON of answers, and the models that describe it in the OpenAPI document.

Answers are built as plain dictionaries; the models are not run.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from winnow.requests import Answer, Recommended, Watermarks
from winnow.types import HEADS, Item, Receipt


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
    score: float = Field(
        description="what the order is by: the predictions weighted by the objectives; with a query, the match with its "
        "words beside them; 1 / rank when nobody ranked"
    )
    predictions: PredictionsOut | None = Field(description="null when nobody ranked")
    sources: list[str] = Field(description="who proposed it; `text`: its words match the query")
    reason: ReasonOut | None
    item: ShownItem | None


class WatermarksOut(BaseModel):
    """How new the answer is; 0 means not known."""

    events: int = Field(description="log position of the newest event included")
    features: int = Field(description="log position of the newest event in the features")
    catalogue: int = Field(description="log position of the newest item")
    bundles: dict[str, str]


class AnswerOut(BaseModel):
    request_id: str
    items: list[RecommendedOut]
    bundles: dict[str, str]
    variant: str
    skipped: list[str] = Field(description="stages that failed or were late")
    watermark: int = Field(description="log position of the newest event included")
    watermarks: WatermarksOut
    token_included: bool = Field(
        False, description="whether the events of the request's token are in it; absent without a token"
    )
    took_ms: dict[str, float] = Field(description="milliseconds per stage, and total")


class AnswersOut(BaseModel):
    answers: list[AnswerOut]


class ReceiptOut(BaseModel):
    accepted: int
    duplicates: int
    watermark: int = Field(description="log position that a later answer must reach to include it")
    token: str = Field("", description="for events: hand it back with a request; absent for items")


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
        "watermarks": watermarks_json(answer.watermarks),
        **({} if answer.token_included is None else {"token_included": answer.token_included}),
        "took_ms": {stage: round(ms, 3) for stage, ms in answer.took_ms.items()},
    }


def watermarks_json(marks: Watermarks) -> dict[str, Any]:
    return {
        "events": marks.events,
        "features": marks.features,
        "catalogue": marks.catalogue,
        "bundles": marks.bundles,
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


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    return {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "watermark": receipt.watermark,
        **({"token": receipt.token} if receipt.token else {}),
    }
