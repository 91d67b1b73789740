"""What a reader of a topic must be able to refuse: a message that cannot be read, or one of a newer schema.

Such a message is never guessed at. Knows neither events nor decisions; both say their `schema` in the same place.
"""

from __future__ import annotations

from typing import Any

import orjson

from winnow.errors import WinnowError


class Poison(WinnowError):
    """A message that cannot be read; `reason` is one of a few words that can be counted."""

    def __init__(self, reason: str, detail: str, *, field: str = "") -> None:
        super().__init__(detail, field=field)
        self.reason = reason


def body_of(value: bytes, newest: int) -> dict[str, Any]:
    """The JSON object of a message whose schema is known here: none newer than `newest`."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as wrong:
        raise Poison("not-json", str(wrong)) from wrong
    if not isinstance(body, dict):
        raise Poison("not-json", "the message is not a JSON object")
    schema = body.get("schema")
    if type(schema) is not int or schema < 1:  # True is an int too
        raise Poison("no-schema", "the message does not say its schema", field="schema")
    if schema > newest:
        raise Poison("newer-schema", f"schema {schema} is newer than {newest}, the newest known here", field="schema")
    return body
