"""Errors that keep their class across the wire.

    WinnowError
    ├── InvalidArgument      the caller's fault; names the field and the remedy
    ├── NotFound             the thing asked for does not exist
    ├── PayloadTooLarge      a limit on size was crossed
    ├── Unauthenticated      nobody knows who asks: no credential, or one that is not valid
    ├── PermissionDenied     who asks is known and may not do this
    ├── ResourceExhausted    a full queue or disk
    │   └── RateLimited      the caller asked too often
    ├── FailedPrecondition   right request, wrong moment (a bundle is missing, a bundle is refused)
    │   └── BundleRefused    a bundle that fails its own checks; the old one keeps serving
    ├── Unavailable          a part is down; trying again later may help
    │   └── DiskFull         nothing can be written until somebody makes room
    └── DeadlineExceeded     a part is too slow

`ERRORS` is the one table from class to HTTP status and gRPC status; both faces read it, both clients read it backwards.
This module knows neither HTTP nor gRPC libraries.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


class WinnowError(Exception):
    """An error of the platform itself: expected, named, and safe to show to the caller."""

    def __init__(self, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class InvalidArgument(WinnowError):
    """The request is wrong; `field` is the path of the offending value, for example `items[3].price`."""


class NotFound(WinnowError):
    """What the request names does not exist."""


class PayloadTooLarge(WinnowError):
    """The request crosses a limit on size; the detail says which, in the limit's unit."""


class Unauthenticated(WinnowError):
    """No credential came, or one that is not valid; `field` is the header. The detail never quotes the credential."""


class PermissionDenied(WinnowError):
    """Who asks may not do this; `scope` is what they lack, and the detail says so."""

    def __init__(self, detail: str, *, field: str = "", scope: str = "") -> None:
        super().__init__(detail, field=field)
        self.scope = scope


class ResourceExhausted(WinnowError):
    """A full queue or a full disk."""


class RateLimited(ResourceExhausted):
    """The caller asked more often than agreed; the detail says when to come back."""


class FailedPrecondition(WinnowError):
    """The request is right but cannot be served in this state."""


class BundleRefused(FailedPrecondition):
    """A bundle failed its own checks (hash, schema, sample scores) and was not loaded."""


class Unavailable(WinnowError):
    """A part of the platform cannot be reached."""


class DiskFull(Unavailable):
    """The disk has no room; nothing was taken. The detail says where room is needed."""


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says of a write that would be taken once there is room: a `DiskFull`."""


class DeadlineExceeded(WinnowError):
    """A part of the platform did not answer within its time budget."""


@dataclass(frozen=True, slots=True)
class Status:
    """How one error class looks outside: HTTP status code, gRPC status name, problem slug and title (RFC 9457)."""

    http: int
    grpc: str
    slug: str
    title: str


ERRORS: dict[type[WinnowError], Status] = {
    InvalidArgument: Status(422, "INVALID_ARGUMENT", "invalid-argument", "The request is not valid"),
    NotFound: Status(404, "NOT_FOUND", "not-found", "No such thing"),
    PayloadTooLarge: Status(413, "OUT_OF_RANGE", "payload-too-large", "The request is too large"),
    Unauthenticated: Status(401, "UNAUTHENTICATED", "unauthenticated", "Who asks is not known"),
    PermissionDenied: Status(403, "PERMISSION_DENIED", "permission-denied", "Not allowed"),
    RateLimited: Status(429, "RESOURCE_EXHAUSTED", "rate-limited", "Too many requests"),
    ResourceExhausted: Status(429, "RESOURCE_EXHAUSTED", "resource-exhausted", "Too much at once"),
    BundleRefused: Status(409, "FAILED_PRECONDITION", "bundle-refused", "The bundle was refused"),
    FailedPrecondition: Status(409, "FAILED_PRECONDITION", "failed-precondition", "Not possible in this state"),
    Unavailable: Status(503, "UNAVAILABLE", "unavailable", "A part is unavailable"),
    DiskFull: Status(503, "UNAVAILABLE", "disk-full", "The disk is full"),
    DeadlineExceeded: Status(504, "DEADLINE_EXCEEDED", "deadline-exceeded", "A part was too slow"),
    WinnowError: Status(500, "INTERNAL", "internal", "Internal error"),
}


def status_of(error: WinnowError) -> Status:
    """The row of `ERRORS` for this error: its own class, else the nearest ancestor's."""
    return next(ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS)


def from_slug(slug: str, detail: str, field: str = "") -> WinnowError:
    """The error whose slug travelled over the wire; an unknown slug (a newer peer) becomes a plain WinnowError."""
    for cls, status in ERRORS.items():
        if status.slug == slug:
            return cls(detail, field=field)
    return WinnowError(detail, field=field)
