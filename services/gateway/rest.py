"""The REST face: routes over the Recommender port, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Query, Request, Response

from services.gateway import problems
from services.gateway.answers import (
    AnswerOut,
    AnswersOut,
    HealthOut,
    ItemOut,
    Problem,
    ReceiptOut,
    answer_json,
    item_json,
    receipt_json,
)
from services.gateway.bodies import (
    BatchIn,
    EventBody,
    EventIn,
    ItemFacts,
    ItemsIn,
    RecommendIn,
    ShortIn,
    SimilarIn,
    SimilarShortIn,
    TrendingShortIn,
)
from services.gateway.docs import docs
from services.gateway.edge import Edge
from services.gateway.guarded_rest import GuardedRest
from services.gateway.security_document import secured
from services.gateway.straight import Straight
from winnow.errors import NotFound, Unavailable
from winnow.ports import Recommender
from winnow.serving.guard import Guard
from winnow.serving.telemetry import metrics_page
from winnow.types import MAX_ID, Item

Known = Callable[[str], Item | None]
ItemId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_ID,
        pattern="^[^/]+$",
        examples=["50"],
        description="an item id without a slash, not even as %2F (400 else): one with a slash goes in a body, of "
        "POST /v1/items:batch to write it, of POST /v1/similar to ask for what goes with it",
    ),
]

ABOUT = "Self-hosted, real-time recommendations: retrieve, filter, rank, arrange, explain."


def json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def rest(port: Recommender, item_of: Known, max_body_bytes: int, body_s: float, guard: Guard | None = None) -> FastAPI:
    """The application. `item_of` finds the facts of one item; without a `guard` everybody is served."""
    app = FastAPI(
        title="Winnow",
        version="1",
        description=ABOUT,
        responses=problems.DOCUMENTED,
        redirect_slashes=False,  # a path that is not documented does not exist
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(Straight, port=port, routes=app.routes)
    if guard is not None:
        app.add_middleware(GuardedRest, guard=guard, routes=app.routes)
    app.add_middleware(Edge, max_body_bytes=max_body_bytes, body_s=body_s)
    recommendations(app, port)
    related(app, port)
    writes(app, port, item_of)
    operations(app, port)
    docs(app)
    document(app)
    secured(app.openapi(), required=guard is not None)
    return app


def recommendations(app: FastAPI, port: Recommender) -> None:
    @app.post("/v1/recommendations", response_model=AnswerOut, tags=["recommend"])
    async def recommend(body: RecommendIn) -> Response:
        """Items for one person."""
        return json(answer_json((await port.recommend([body.word()]))[0]))

    @app.get("/v1/recommendations", response_model=AnswerOut, tags=["recommend"])
    async def recommend_short(query: Annotated[ShortIn, Query()]) -> Response:
        """Items for one person, in a link."""
        return json(answer_json((await port.recommend([query.word()]))[0]))

    @app.post("/v1/recommendations:batch", response_model=AnswersOut, tags=["recommend"])
    async def recommend_batch(body: BatchIn) -> Response:
        """Items for up to 100 people in one pass; answers in the order of the requests."""
        answers = await port.recommend(body.word())
        return json({"answers": [answer_json(answer) for answer in answers]})


def related(app: FastAPI, port: Recommender) -> None:
    @app.get("/v1/items/{item_id}/similar", response_model=AnswerOut, tags=["recommend"])
    async def similar(item_id: ItemId, query: Annotated[SimilarShortIn, Query()]) -> Response:
        """Items that go with this one."""
        return json(answer_json(await port.similar(query.word(item_id))))

    @app.post("/v1/similar", response_model=AnswerOut, tags=["recommend"])
    async def similar_to_basket(body: SimilarIn) -> Response:
        """Items that go with all items of a basket."""
        return json(answer_json(await port.similar(body.word())))

    @app.get("/v1/trending", response_model=AnswerOut, tags=["recommend"])
    async def trending(query: Annotated[TrendingShortIn, Query()]) -> Response:
        """The items most acted on lately; with a person, without those they have seen."""
        return json(answer_json(await port.trending(query.word())))


def writes(app: FastAPI, port: Recommender, item_of: Known) -> None:
    @app.post("/v1/events", response_model=ReceiptOut, tags=["write"])
    async def record(body: EventBody) -> Response:
        """Take one event, or `{"events": […]}`, all or none. Answered once they are on disk."""
        events = [body.word()] if isinstance(body, EventIn) else body.word()
        return json(receipt_json(await port.record(events)))

    @app.put("/v1/items/{item_id}", response_model=ReceiptOut, tags=["write"])
    async def put_item(item_id: ItemId, body: ItemFacts) -> Response:
        """Write an item; it can be recommended seconds later."""
        return json(receipt_json(await port.put_items([body.item(item_id)])))

    @app.post("/v1/items:batch", response_model=ReceiptOut, tags=["write"])
    async def put_items(body: ItemsIn) -> Response:
        """Write up to 1000 items, all or none."""
        return json(receipt_json(await port.put_items(body.word())))

    @app.get("/v1/items/{item_id}", response_model=ItemOut, tags=["write"])
    async def get_item(item_id: ItemId) -> Response:
        """The facts of an item."""
        item = item_of(item_id)
        if item is None:
            raise NotFound(f"no item {item_id!r}", field="item_id")
        return json(item_json(item))


def operations(app: FastAPI, port: Recommender) -> None:
    @app.get("/healthz", response_model=HealthOut, tags=["operate"])
    async def healthz() -> Response:
        """The process lives."""
        return json({"status": "ok"})

    @app.get("/readyz", response_model=HealthOut, tags=["operate"])
    async def readyz() -> Response:
        """The platform can answer; 503 names what is missing."""
        readiness = await port.ready()
        if not readiness.ready:
            raise Unavailable("missing: " + "; ".join(readiness.missing))
        return json({"status": "ready"})

    @app.get("/metrics", tags=["operate"], response_class=Response, responses=METRICS)
    async def metrics(request: Request) -> Response:
        """Prometheus metrics."""
        body, headers = metrics_page(request.headers.get("accept", ""))
        return Response(body, headers=dict(headers))


METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def document(app: FastAPI) -> None:
    """Put the problem's schema, which no route returns by itself, into the OpenAPI document."""
    made = app.openapi()
    schemas = made["components"]["schemas"]
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
