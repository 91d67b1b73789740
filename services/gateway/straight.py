"""The short way of the one request that is asked most: `POST /v1/recommendations` with a plain JSON body.

It reads the body, checks it by the same model, asks the port and answers; a quarter of a millisecond that the framework
spends on what this route does not use (dependencies, forms, exit stacks) is saved. Whatever is unusual,
another content type, JSON that is refused or a field that is wrong, goes on to the application as if nothing had been read:
there is one place that says what is wrong with a request. Plain ASGI, innermost of the middleware.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.answers import answer_json
from services.gateway.bodies import RecommendIn
from services.gateway.problems import of_platform
from winnow.errors import WinnowError
from winnow.ports import Recommender
from winnow.requests import RecommendRequest

PATH = "/v1/recommendations"
CONTENT_TYPE, JSON = b"content-type", b"application/json"


class Straight:
    """`routes` are the application's own: the request counts under the route that documents it."""

    def __init__(self, app: ASGIApp, port: Recommender, routes: list[BaseRoute]) -> None:
        self._app = app
        self._port = port
        self._routes = routes
        self._route: BaseRoute | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST" or not plain(scope):
            await self._app(scope, receive, send)
            return
        taken: list[Message] = []
        try:
            while not taken or taken[-1].get("more_body", False):
                taken.append(await receive())
        except HTTPException as late:  # or too large: for the application to say
            await self._app(scope, raising(late), send)
            return
        if (request := request_of(taken)) is None:
            await self._app(scope, again(taken, receive), send)
            return
        scope["route"] = self._own_route()
        try:
            answer = (await self._port.recommend([request]))[0]
        except WinnowError as error:
            await (await of_platform(Request(scope), error))(scope, receive, send)
            return
        body = orjson.dumps(answer_json(answer))
        headers = [(b"content-length", b"%d" % len(body)), (CONTENT_TYPE, JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _own_route(self) -> BaseRoute:
        if self._route is None:
            asked = ((one, getattr(one, "methods", None) or ()) for one in self._routes)
            self._route = next(one for one, methods in asked if getattr(one, "path", "") == PATH and "POST" in methods)
        return self._route


def plain(scope: Scope) -> bool:
    """Whether the body is said to be JSON, once and in so many words."""
    return [value for name, value in scope["headers"] if name == CONTENT_TYPE] == [JSON]


def request_of(messages: Sequence[Message]) -> RecommendRequest | None:
    """The request in a body; None where anything about it is not plainly right."""
    if any(message["type"] != "http.request" for message in messages):  # the client left
        return None
    body = b"".join([message.get("body", b"") for message in messages])
    try:
        return RecommendIn.model_validate(orjson.loads(body)).word()
    except (orjson.JSONDecodeError, ValidationError, WinnowError):
        return None


def again(taken: Sequence[Message], receive: Receive) -> Receive:
    """`receive` as it was before these messages were taken from it."""
    waiting = [*reversed(taken)]

    async def replaying() -> Message:
        return waiting.pop() if waiting else await receive()

    return replaying


def raising(error: HTTPException) -> Receive:
    async def broken() -> Message:
        raise error

    return broken
