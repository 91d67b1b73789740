"""Errors to gRPC statuses and back, by the one table in `winnow.errors`.

The slug and the field travel as trailing metadata, so an error keeps its class across the wire; a status that carries
no slug comes from gRPC itself, or from a peer's bug.
"""

from __future__ import annotations

import grpc
import grpc.aio

from winnow.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    PayloadTooLarge,
    Unavailable,
    WinnowError,
    from_slug,
    status_of,
)

SLUG = "winnow-slug"
FIELD = "winnow-field-bin"  # -bin: the value may hold any bytes
REQUEST_ID = "winnow-request-id"

MAX_MESSAGE_BYTES = 32 * 2**20
MAX_DETAIL = 2_000  # characters; HTTP/2 trailers are limited


class PeerFailed(Exception):
    """A peer answered with an error nobody listed: a bug there. As loud here as if it had happened here."""


def code_of(error: WinnowError) -> grpc.StatusCode:
    code: grpc.StatusCode = getattr(grpc.StatusCode, status_of(error).grpc)
    return code


def trailers_of(error: WinnowError) -> tuple[tuple[str, str | bytes], ...]:
    return ((SLUG, status_of(error).slug), (FIELD, error.field.encode()[:MAX_DETAIL]))


def error_of(peer: str, broken: grpc.aio.AioRpcError) -> Exception:
    """What a failed call means to the caller; to be raised `from` it."""
    detail = f"{peer}: {broken.details() or broken.code().name}"
    trailers = dict(broken.trailing_metadata() or ())
    if slug := trailers.get(SLUG):
        field = trailers.get(FIELD, b"")
        field = field.decode() if isinstance(field, bytes) else str(field)
        return from_slug(str(slug), broken.details() or "", field)
    match broken.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(detail)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unavailable(detail)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:  # gRPC's own word for a message over the limit
            return PayloadTooLarge(detail)
        case grpc.StatusCode.UNIMPLEMENTED:  # an older peer during an upgrade
            return FailedPrecondition(detail)
        case _:
            return PeerFailed(detail)
