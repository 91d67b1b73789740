"""What is wrong with an object, in words that name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`where` is Kind/name, `rule` one word for the kind of fault."""

    where: str
    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.detail}"


def name_of(one: dict[str, Any]) -> str:
    return f"{one.get('kind', '?')}/{one.get('metadata', {}).get('name', '?')}"
