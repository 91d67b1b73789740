"""Errors to gRPC statuses and back, by the one table in `winnow.errors`.

The slug and the field travel as trailing metadata, so an error keeps its class across the wire. A bug of a peer has a
slug too; a status that carries none comes from gRPC itself.
"""

from __future__ import annotations

import grpc
import grpc.aio

from winnow.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    PayloadTooLarge,
    ResourceExhausted,
    Unavailable,
    WinnowError,
    from_slug,
    status_of,
)

SLUG = "winnow-slug"
BUG = "bug"  # the slug of an error that nobody listed
FIELD = "winnow-field-bin"  # -bin: the value may hold any bytes
REQUEST_ID = "winnow-request-id"

OURS = frozenset(
    getattr(grpc.StatusCode, name)
    for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Statuses that are the server's fault: its span failed. Of all others the caller has learnt something."""

MAX_MESSAGE_BYTES = 32 * 2**20
TOO_LARGE = "larger than max"  # in gRPC's own words
MAX_DETAIL = 2_000  # characters; HTTP/2 trailers are limited


class PeerFailed(Exception):
    """A peer answered with an error nobody listed: a bug there. As loud here as if it had happened here."""


class Unreachable(Unavailable):
    """A peer is away, in contrast to one that is there and says that it lacks something."""


BROKE, UNKNOWN_NAME = "the connection broke", "its name is not known here"
NO_GRPC = "what listens there does not speak gRPC"
NOT_PROVEN = "it cannot prove who it is"
REASONS = {
    "verify_failed": NOT_PROVEN,
    "verification check failed": NOT_PROVEN,
    "wrong_version_number": "what listens there does not speak TLS",
    "connection refused": "nothing listens there",
    "dns resolution failed": UNKNOWN_NAME,
    "hostname lookup": UNKNOWN_NAME,
    "unreachable": "no way leads to its network",
    "no route to host": "no way leads to its network",
    "timed out": "it does not answer",
    "timeout": "it does not answer",
    "socket closed": BROKE,
    "reset": BROKE,
    "stream removed": BROKE,
    "broken pipe": BROKE,
    "goaway": BROKE,
    "cancelled": BROKE,
    "http1.x server": NO_GRPC,
    "failed parsing http/2": NO_GRPC,
}
"""What gRPC says of a peer that is away, part by part, and what it means."""


def code_of(error: WinnowError) -> grpc.StatusCode:
    code: grpc.StatusCode = getattr(grpc.StatusCode, status_of(error).grpc)
    return code


def trailers_of(error: WinnowError) -> tuple[tuple[str, str | bytes], ...]:
    return ((SLUG, status_of(error).slug), (FIELD, error.field.encode()[:MAX_DETAIL]))


def error_of(peer: str, broken: grpc.aio.AioRpcError, address: str = "") -> Exception:
    """What a failed call to `peer`, at `address` where that is known, means to the caller; to be raised `from` it."""
    detail = f"{peer}: {broken.details() or broken.code().name}"
    trailers = dict(broken.trailing_metadata() or ())
    slug = trailers.get(SLUG, "")
    if slug == BUG:
        return PeerFailed(detail)
    if slug:
        field = trailers.get(FIELD, b"")
        field = field.decode() if isinstance(field, bytes) else str(field)
        return from_slug(str(slug), broken.details() or "", field)
    match broken.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(detail)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:  # too many calls at once, or a message over the limit
            return PayloadTooLarge(detail) if TOO_LARGE in detail else ResourceExhausted(detail)
        case grpc.StatusCode.PERMISSION_DENIED:  # the diagram has no arrow from here to there
            return Unavailable(detail)
        case grpc.StatusCode.UNIMPLEMENTED:  # an older peer during an upgrade
            return FailedPrecondition(detail)
        case _:  # the connection broke, or the peer died in the middle
            return Unreachable(f"{peer}{address and f' at {address}'} cannot be reached: {why_away(broken.details())}")


def why_away(details: str | None) -> str:
    """In plain words; gRPC's own, which name resolved addresses and error numbers, stay in the cause."""
    told = (details or "").lower()
    return next((words for part, words in REASONS.items() if part in told), BROKE)
