"""Per-request filters: a typed boolean expression over an item's columns.

    {"all": [{"field": "categories", "op": "in", "values": ["Comedy", "Drama"]},
             {"not": {"field": "price", "op": "gt", "number": 20}}]}

The same tree travels as JSON and as protobuf. Its meaning is one function, `holds`, over one item; the catalogue
(`winnow.catalogue`) evaluates it over columns and a property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from winnow.errors import InvalidArgument
from winnow.types import Item, check_id, check_number, check_text

MAX_DEPTH = 8
MAX_TERMS = 64
TOO_DEEP = f"a filter is nested at most {MAX_DEPTH} deep"
MAX_VALUES = 1_000

TEXT_FIELDS = ("item_id", "categories", "brand", "currency")
NUMBER_FIELDS = ("price", "created_at")  # created_at in seconds since 1970, UTC
FLAG_FIELDS = ("available",)
ATTRIBUTE = "attributes."  # `attributes.colour` is a text field


class Op(StrEnum):
    IN = "in"  # text fields: any of `values`; for categories: shares one of them
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    IS = "is"  # flag fields: equals `flag`


@dataclass(frozen=True, slots=True)
class Term:
    """One comparison. An item without the value (no price, no such attribute) does not match."""

    field: str
    op: Op
    values: tuple[str, ...] = ()
    number: float = 0.0
    flag: bool = True

    def __post_init__(self) -> None:
        if is_text(self.field):
            self._takes(Op.IN)
            if not 1 <= len(self.values) <= MAX_VALUES:
                raise InvalidArgument(f"between 1 and {MAX_VALUES} values", field=f"filter.{self.field}.values")
            for value in self.values:
                check_text(value, f"filter.{self.field}.values", 2_000)
        elif self.field in NUMBER_FIELDS:
            self._takes(Op.LT, Op.LE, Op.GT, Op.GE)
            check_number(self.number, f"filter.{self.field}.number", low=-1e12, high=1e12)
        elif self.field in FLAG_FIELDS:
            self._takes(Op.IS)
        else:
            known = ", ".join((*TEXT_FIELDS, *NUMBER_FIELDS, *FLAG_FIELDS, ATTRIBUTE + "<name>"))
            raise InvalidArgument(f"unknown field {self.field!r}; known are {known}", field="filter.field")

    def _takes(self, *allowed: Op) -> None:
        if self.op not in allowed:
            raise InvalidArgument(
                f"{self.field} takes {', '.join(allowed)}, not {self.op}", field=f"filter.{self.field}.op"
            )


@dataclass(frozen=True, slots=True)
class All:
    """Every part matches; with no part, everything does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part matches; with no part, nothing does."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not match."""

    part: Filter


Filter = Term | All | Any | Not


def is_text(field: str) -> bool:
    if field.startswith(ATTRIBUTE):
        check_id(field.removeprefix(ATTRIBUTE), "filter.field")
        return True
    return field in TEXT_FIELDS


def check_filter(tree: Filter) -> None:
    """Refuse a tree that is too deep or too large; called once where a request enters."""
    if depth(tree) > MAX_DEPTH:
        raise InvalidArgument(TOO_DEEP, field="filter")
    if sum(1 for _ in terms(tree)) > MAX_TERMS:
        raise InvalidArgument(f"more than {MAX_TERMS} terms", field="filter")


def depth(tree: Filter) -> int:
    match tree:
        case Term():
            return 1
        case Not(part):
            return 1 + depth(part)
        case All(parts) | Any(parts):
            return 1 + max((depth(part) for part in parts), default=0)


def terms(tree: Filter) -> Iterator[Term]:
    match tree:
        case Term():
            yield tree
        case Not(part):
            yield from terms(part)
        case All(parts) | Any(parts):
            for part in parts:
                yield from terms(part)


def holds(tree: Filter, item: Item) -> bool:
    """Whether one item matches: the meaning of a filter, one item at a time."""
    match tree:
        case All(parts):
            return all(holds(part, item) for part in parts)
        case Any(parts):
            return any(holds(part, item) for part in parts)
        case Not(part):
            return not holds(part, item)
        case Term(field, op, values, number, flag):
            if field in FLAG_FIELDS:
                return item.available == flag
            if field in NUMBER_FIELDS:
                value = item.price if field == "price" else item.created_at.timestamp()
                return value is not None and compare(value, op, number)
            return not set(values).isdisjoint(texts_of(item, field))


def texts_of(item: Item, field: str) -> tuple[str, ...]:
    """The values an item has for a text field: none, one, or (categories) several."""
    if field.startswith(ATTRIBUTE):
        value = item.attributes.get(field.removeprefix(ATTRIBUTE))
        return () if value is None else (value,)
    if field == "categories":
        return item.categories
    return (cast(str, getattr(item, field)),)


def compare(value: float, op: Op, number: float) -> bool:
    match op:
        case Op.LT:
            return value < number
        case Op.LE:
            return value <= number
        case Op.GT:
            return value > number
        case Op.GE:
            return value >= number
        case _:
            raise InvalidArgument(f"{op} does not compare numbers", field="filter.op")
