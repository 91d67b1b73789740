"""The guard before every HTTP route: refused before a byte of the body is read. Plain ASGI.

It looks for the route as the router will, in the router's own list, so both mean the same one; a route that is not in the
table of access is refused even if it was added by somebody who has never heard of the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problems import problem
from winnow.errors import PermissionDenied, Unauthenticated, Unavailable, WinnowError, status_of
from winnow.serving.guard import API_KEY, AUTHORIZATION, Admission, Credentials, Guard
from winnow.serving.principal import NOBODY, principal
from winnow.serving.telemetry import ACCESS

NAMES = (AUTHORIZATION.encode(), API_KEY.encode())
REALM = 'Bearer realm="winnow"'


class GuardedRest:
    def __init__(self, app: ASGIApp, guard: Guard, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._guard = guard
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no such connection is served
        principal.set(NOBODY)
        route = route_of(scope, self._routes)
        if route is None:  # for the router to say: no such path, or no such method
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        admission = await self._guard.admit(what_of(scope, route), credentials_of(scope))
        ACCESS.labels(face="rest", outcome=admission.outcome).inc()
        if admission.refusal is not None:
            await refusal(admission.refusal, admission)(scope, receive, send)
            return
        principal.set(admission.principal)
        await self._app(scope, receive, told(send, admission))


def route_of(scope: Scope, routes: Sequence[BaseRoute]) -> BaseRoute | None:
    return next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)


def what_of(scope: Scope, route: BaseRoute) -> str:
    """As the table of access names it. HEAD is GET without the body."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return f"{method} {getattr(route, 'path', '')}"


def credentials_of(scope: Scope) -> Credentials:
    brought: tuple[list[str], list[str]] = ([], [])
    for name, value in scope["headers"]:
        if name in NAMES:
            brought[NAMES.index(name)].append(value.decode("latin-1"))
    client = scope.get("client")
    return Credentials(*brought, client[0] if client else "")


def told(send: Send, admission: Admission) -> Send:
    """`send` that adds what is left of the caller's rate."""
    if admission.budget is None:
        return send
    fields = [(name.encode(), value.encode()) for name, value in admission.budget.headers()]

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *fields]
        await send(message)

    return telling


def refusal(error: WinnowError, admission: Admission) -> Response:
    status = status_of(error)
    headers = dict(admission.budget.headers()) if admission.budget else {}
    if challenge := challenge_of(error):
        headers["www-authenticate"] = challenge
    if isinstance(error, Unavailable):
        headers["retry-after"] = "1"
    return problem(status.http, status.slug, status.title, error.detail, error.field, headers)


def challenge_of(error: WinnowError) -> str:
    """RFC 6750: what a client that speaks OAuth acts on."""
    match error:
        case PermissionDenied() if error.scope:
            return f'{REALM}, error="insufficient_scope", scope="{error.scope}"'
        case Unauthenticated() if not error.detail.startswith("send "):
            return f'{REALM}, error="invalid_token", error_description="{error.detail}"'
        case Unauthenticated():
            return REALM
        case _:
            return ""
