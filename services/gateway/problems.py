"""Errors as RFC 9457 problems: one table (`winnow.errors`), one shape, for every way a request can fail."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from services.gateway.answers import Problem
from services.gateway.edge import path_of as path_of_route
from winnow.errors import ERRORS, WinnowError, status_of
from winnow.filters import TOO_DEEP
from winnow.serving.telemetry import request_id

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
NOT_FOUND, METHOD_NOT_ALLOWED, UNSUPPORTED = 404, 405, 415
MAX_DETAIL = 500  # characters: a detail may quote the request
STATUSES = sorted({status.http for status in ERRORS.values()} | {400, 405, 408, 415})
ITEMS = "/v1/items/"
SLASH = "an item id with a slash goes in a body: POST /v1/items:batch writes it, POST /v1/similar asks for what goes with it"
SLASH_TITLE = "An item id in a path has no slash"
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in STATUSES
}
"""The problems of every route, for the OpenAPI document."""


def problem(
    status: int, slug: str, title: str, detail: str, field: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    body = Problem(
        type=f"urn:winnow:problem:{slug}",
        title=title,
        status=status,
        detail=detail[:MAX_DETAIL],
        field=field[:MAX_DETAIL] or None,
        request_id=request_id.get() or None,
    )
    text = orjson.dumps(body.model_dump(exclude_none=True))
    return Response(text, status, dict(headers or {}), MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Every error of `app` leaves as a problem."""
    app.add_exception_handler(WinnowError, of_platform)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, of_bug)


async def of_platform(request: Request, error: Exception) -> Response:
    assert isinstance(error, WinnowError)
    status = status_of(error)
    headers = {"retry-after": "1"} if status.http in (429, 503) else None
    return problem(status.http, status.slug, status.title, error.detail, error.field, headers)


async def of_validation(request: Request, error: Exception) -> Response:
    """The first thing that is wrong, by its path in the body or its name in the query."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # not taken for JSON
        return problem(
            UNSUPPORTED, *words_of(UNSUPPORTED), "send the header content-type: application/json", "content-type"
        )
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return problem(400, "malformed", "The body is not JSON", str(first.get("ctx", {}).get("error", "")))
    return problem(422, "invalid-argument", "The request is not valid", first["msg"], path_of(first["loc"]))


async def of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, RecursionError):  # of all that comes in only filters nest
        return problem(422, *words_of(422), TOO_DEEP, "filter")
    if error.status_code in (NOT_FOUND, METHOD_NOT_ALLOWED) and asks_by_slash(request):
        return problem(400, "slash-in-item-id", SLASH_TITLE, SLASH, "item_id")
    slug, title = words_of(error.status_code)
    headers = {"allow": allowed(request)} if error.status_code == METHOD_NOT_ALLOWED else error.headers
    return problem(error.status_code, slug, title, str(error.detail), headers=headers)


def asks_by_slash(request: Request) -> bool:
    """Whether this path, which no route takes, would be an item's if ids in paths had slashes. Only reading and writing
    an item have one, and `GET /v1/items/{item_id}/similar`, a route of its own, never comes here."""
    path: str = request.scope["path"]  # unquoted: an encoded slash is one too
    return request.method in ("GET", "PUT") and path.startswith(ITEMS) and "/" in path.removeprefix(ITEMS)


def words_of(status: int) -> tuple[str, str]:
    """Slug and title: the table's where it has the status, HTTP's own for what only HTTP knows."""
    if row := next((row for row in ERRORS.values() if row.http == status), None):
        return row.slug, row.title
    phrase = HTTPStatus(status).phrase
    return phrase.lower().replace(" ", "-"), phrase


def allowed(request: Request) -> str:
    """The methods of every route with this path: each route knows only its own."""
    here = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in here for method in route.methods}))


async def of_bug(request: Request, error: Exception) -> Response:
    """An error nobody listed: told without detail, logged whole by the server."""
    log.error("unexpected error", exc_info=error, extra={"route": path_of_route(request.scope)})
    return problem(500, "internal", "Internal error", "something went wrong here; the log has the request id")


TAGS = frozenset({"all", "any", "not", "term", "event", "events"})


def path_of(location: tuple[int | str, ...]) -> str:
    """('body', 'events', 3, 'value') → `events[3].value`; the names of alternatives are not part of a path."""
    path = ""
    parts = list(location[1:])
    for place, part in enumerate(parts):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not (part in TAGS and is_tag(parts, place)):
            path += f".{part}" if path else part
    return path


def is_tag(parts: list[int | str], place: int) -> bool:
    """Whether this word names an alternative: pydantic puts it before the alternative's own fields."""
    follows = parts[place + 1] if place + 1 < len(parts) else ""
    before = parts[place - 1] if place else ""
    return (place == 0 and parts[place] in ("event", "events") and isinstance(follows, str)) or (
        before == "filter" or isinstance(before, int) or before in ("not",)
    )
