"""What a face that strangers can reach takes from one of them: sizes, times, connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """For both faces of a process. Inner services, whose clients are our own, have none."""

    max_body_bytes: int  # of one message; REST says so with more words by itself
    max_header_bytes: int
    max_connections: int  # of each face
    header_s: float  # until a request's headers are whole, or a new connection has said anything
    body_s: float  # until its body is
    idle_s: float  # between two requests
    trusted_proxies: str = ""  # addresses whose X-Forwarded-For is believed, separated by commas
