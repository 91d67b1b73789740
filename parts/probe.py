"""Asks a program over HTTP whether it is there: what most programs' `ready` is made of."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from parts.program import HOST

PROBE_S = 1.0
SAID = 200  # characters of a refusal that are passed on


def well(said: str) -> str:
    """Whoever answers at all is well."""
    return ""


def answers(port: int, path: str, why_not: Callable[[str], str] = well) -> str:
    """ "" when a GET of `path` succeeds and `why_not`, given what it said, has no objection; else why it is not ready."""
    try:
        answer = httpx.get(f"http://{HOST}:{port}{path}", timeout=PROBE_S)
    except httpx.HTTPError as away:
        return str(away) or type(away).__name__
    if not answer.is_success:
        return f"status {answer.status_code}: {answer.text[:SAID]}"
    return why_not(answer.text)
