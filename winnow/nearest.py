"""The known name that a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like this one; empty where none is like it."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), "")


def meant(name: str, known: Iterable[str]) -> str:
    """What to ask after an unknown name, in brackets after a space; empty where no known one is like it."""
    found = nearest(name, known)
    return f" (did you mean {found}?)" if found else ""
