"""`winnow recommend`: ask a running platform, over REST or gRPC."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from cli.answers import answer_table, document, remarks
from cli.console import note, show
from cli.homes import AsJson
from winnow.errors import InvalidArgument, Unavailable, from_slug
from winnow.filters import Op, Term
from winnow.requests import RecommendRequest
from winnow.serving.guard import API_KEY
from winnow.types import Person

TIMEOUT_S = 10.0


def recommend(
    user: Annotated[str, typer.Option("--user", help="Whose recommendations: a user id.")] = "",
    session: Annotated[str, typer.Option("--session", help="Or an anonymous session's id.")] = "",
    n: Annotated[int, typer.Option("-n", help="How many items, 1 to 100.")] = 10,
    query: Annotated[str, typer.Option("--query", help="Free text to search for.")] = "",
    diversity: Annotated[
        float | None, typer.Option("--diversity", help="How varied, 0 to 1; the platform's default where absent.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option("--category", help="Only items of this category; repeatable.")
    ] = None,
    url: Annotated[str, typer.Option("--url", help="The gateway's REST address.")] = "http://127.0.0.1:8080",
    grpc: Annotated[str, typer.Option("--grpc", help="Its gRPC address instead, for example 127.0.0.1:50050.")] = "",
    ca: Annotated[
        Path | None, typer.Option("--ca", help="File of the authority that signed the gateway's certificate.")
    ] = None,
    api_key: Annotated[
        str, typer.Option("--api-key", envvar="WINNOW_API_KEY", help="For a gateway that asks who you are; over REST.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Recommendations of a running platform (start one with winnow serve or winnow demo)."""
    only = Term("categories", Op.IN, tuple(category)) if category else None
    request = RecommendRequest(Person(user, session), n=n, query=query, filter=only, diversity=diversity)
    answer = (
        asyncio.run(over_grpc(grpc, request, authorities_in(ca)))
        if grpc
        else over_rest(url, request, authorities_in(ca), api_key)
    )
    show(answer, answer_table(f"for {user or session}", answer), as_json)
    if not as_json:
        note(remarks(answer))


def over_rest(url: str, request: RecommendRequest, authorities: str = "", api_key: str = "") -> dict[str, Any]:
    """POST /v1/recommendations; a problem comes back as the error that it was."""
    body: dict[str, Any] = {"n": request.n, "query": request.query}
    body |= {"user_id": request.person.user_id} if request.person.user_id else {}
    body |= {"session_id": request.person.session_id} if request.person.session_id else {}
    body |= {} if request.diversity is None else {"diversity": request.diversity}
    if isinstance(request.filter, Term):
        body["filter"] = {"field": "categories", "op": "in", "values": list(request.filter.values)}
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/v1/recommendations",
            json=body,
            headers={API_KEY: api_key} if api_key else {},
            timeout=TIMEOUT_S,
            verify=trust(authorities),
        )
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as wrong:
        raise InvalidArgument(f"{str(wrong).rstrip('.')}; for example http://127.0.0.1:8080", field="--url") from wrong
    except httpx.HTTPError as gone:
        raise nobody(url, gone) from gone
    if response.is_error:
        raise problem(response)
    answer: dict[str, Any] = response.json()
    return answer


def problem(response: httpx.Response) -> Exception:
    """The platform's own error behind an RFC 9457 problem."""
    if "json" not in response.headers.get("content-type", ""):
        return Unavailable(f"status {response.status_code} from something that is no gateway")
    fault = response.json()
    slug = str(fault.get("type", "")).rpartition("/")[2].rpartition(":")[2]
    return from_slug(slug, str(fault.get("detail") or fault.get("title")), str(fault.get("field") or ""))


async def over_grpc(address: str, request: RecommendRequest, authorities: str = "") -> dict[str, Any]:
    """The same by gRPC."""
    from winnow.serving.connect import connect, connect_face
    from winnow.serving.status import Unreachable
    from winnow.wire.gateway import GatewayClient

    async with connect_face(address, authorities.encode()) if authorities else connect(address) as channel:
        try:
            [answer] = await GatewayClient(channel, timeout_s=TIMEOUT_S).recommend([request])
        except Unreachable as gone:
            raise Unavailable(f"{gone.detail}; start one with winnow serve, or name another by --grpc") from gone
        return document(answer)


def authorities_in(ca: Path | None) -> str:
    """The certificates in a file, as text; empty without one."""
    if ca is None:
        return ""
    try:
        text = ca.read_text("ascii") or "nothing"
        trust(text)
    except (OSError, ValueError) as wrong:  # an SSLError is an OSError
        raise InvalidArgument(f"{ca} holds no certificate in PEM", field="--ca") from wrong
    return text


def trust(authorities: str) -> ssl.SSLContext | bool:
    """Whom to believe that it is the gateway: these, or those that the system knows."""
    return ssl.create_default_context(cadata=authorities) if authorities else True


def nobody(address: str, gone: Exception) -> Unavailable:
    return Unavailable(f"no platform answers at {address} ({gone}); start one with winnow serve")
