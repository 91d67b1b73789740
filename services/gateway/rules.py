"""Business rules: what a shop says of its pages, whatever the models say. `winnow rules publish` checks and writes the file;
a gateway reads it again when it changes.

Where two rules meet, the stronger wins: block before pin before quota before bury before boost. What they do to a list is
`services.gateway.ruled`; whether they contradict each other is `services.gateway.rule_conflicts`, and over a catalogue `cli.rule_pages`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import orjson
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from services.gateway.bodies import FilterIn, filter_of, shallow
from services.gateway.slate import BLOCK, PLACES
from services.gateway.watched import Watched
from winnow.errors import FailedPrecondition, InvalidArgument, WinnowError
from winnow.filters import All, Filter, Not
from winnow.filters import Any as AnyOf
from winnow.serving.telemetry import RULE_SETS
from winnow.types import MAX_ID, Context

MAX_RULES = 200
MAX_FILE_BYTES = 2**20
MAX_PLACE = PLACES  # that a pin names, and up to which quotas are counted
LOOK_S = 2.0
FILE = "rules.json"

log = logging.getLogger(__name__)

ListKind = Literal["recommend", "similar", "trending"]
EVERY_LIST: tuple[ListKind, ...] = ("recommend", "similar", "trending")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$", description="small letters, digits, hyphens")]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Tree = Annotated[FilterIn, BeforeValidator(shallow)]
Places = Annotated[int, Field(ge=0, le=BLOCK)]


class Rule(BaseModel):
    """What every rule has: a name, and when it counts. An empty list of surfaces, devices or countries means any."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    lists: tuple[ListKind, ...] = Field(("recommend",), min_length=1)
    surfaces: tuple[Id, ...] = Field((), max_length=100)
    devices: tuple[Id, ...] = Field((), max_length=100)
    countries: tuple[Id, ...] = Field((), max_length=300)
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.starts_at and self.ends_at and self.starts_at >= self.ends_at:
            raise ValueError("ends_at must come after starts_at")
        if (self.surfaces or self.devices or self.countries) and tuple(self.lists) != ("recommend",):
            raise ValueError(
                'similar and trending lists have no surface, device or country: say "lists": ["recommend"], or leave these out'
            )
        return self

    def counts(self, kind: str, context: Context, at: datetime) -> bool:
        """Whether it counts for a list of this kind, in this context, at this moment."""
        return (
            kind in self.lists
            and (not self.surfaces or context.surface in self.surfaces)
            and (not self.devices or context.device in self.devices)
            and (not self.countries or context.country in self.countries)
            and (self.starts_at is None or self.starts_at <= at)
            and (self.ends_at is None or at < self.ends_at)
        )


class Filtered(Rule):
    """A rule of the items that match a filter, the same as a request's."""

    filter: Tree

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        try:
            self.tree  # noqa: B018  (asked for early: a wrong term is said when the file is read)
        except InvalidArgument as wrong:
            raise ValueError(f"{wrong.field}: {wrong.detail}") from wrong
        return self

    @cached_property
    def tree(self) -> Filter:
        found = filter_of(self.filter)
        assert found is not None
        return found


class Block(Filtered):
    """These items are never found. Search keeps lists full without them."""

    kind: Literal["block"]
    lists: tuple[ListKind, ...] = Field(EVERY_LIST, min_length=1)


class Bury(Filtered):
    """These items come behind all others."""

    kind: Literal["bury"]


class Boost(Filtered):
    """Adds `strength` times the range of the list's scores: at 1 the worst of these stands beside the best of the others."""

    kind: Literal["boost"]
    strength: float = Field(gt=0, le=10)


class Quota(Filtered):
    """Of every ten places of the first fifty, at least and at most so many are for these items, as far as there are any."""

    kind: Literal["quota"]
    at_least: Places = 0
    at_most: Places = BLOCK

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError("at_least must not be above at_most")
        if self.at_least == 0 and self.at_most == BLOCK:
            raise ValueError("give at_least, at_most or both")
        return self


class Pin(Rule):
    """This item stands at this place, 1 being the first, also where no model would find it."""

    kind: Literal["pin"]
    item_id: Id
    place: int = Field(ge=1, le=MAX_PLACE)


AnyRule = Annotated[Block | Bury | Boost | Quota | Pin, Field(discriminator="kind")]


class RuleFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[AnyRule, ...] = Field((), max_length=MAX_RULES)


@dataclass(frozen=True, slots=True)
class Active:
    """The rules that count for one list."""

    version: str = ""
    blocks: tuple[Filter, ...] = ()
    pins: tuple[tuple[int, str], ...] = ()  # (place from 0, item id), by place
    quotas: tuple[tuple[Filter, int, int], ...] = ()  # (filter, at least, at most)
    buries: tuple[Filter, ...] = ()
    boosts: tuple[tuple[Filter, float], ...] = ()

    def within(self, tree: Filter | None) -> Filter | None:
        """A request's filter and that nothing of it is blocked."""
        if not self.blocks:
            return tree
        free = Not(AnyOf(self.blocks))
        return free if tree is None else All((tree, free))


NO_RULES = Active()


class Rules:
    """One published set. `version` is 16 hex digits of its content, "" of an empty set."""

    def __init__(self, file: RuleFile) -> None:
        self.file = file
        self.content = {
            "rules": [
                rule.model_dump(mode="json", by_alias=True, exclude_defaults=True, warnings=False)
                for rule in file.rules
            ]
        }
        content = orjson.dumps(self.content, option=orjson.OPT_SORT_KEYS)
        self.version = hashlib.sha256(content).hexdigest()[:16] if file.rules else ""

    def active(
        self, kind: str, context: Context, at: datetime, searched: bool = False, now: datetime | None = None
    ) -> Active:
        """Those that count here; of a search (`searched`) only what is blocked: it is answered by its words. `at` is the
        request's moment; what is blocked is so by the clock (`now`), whatever moment a request claims."""
        here = [
            rule
            for rule in self.file.rules
            if rule.counts(kind, context, (now or at) if isinstance(rule, Block) else at)
        ]
        if not here:
            return NO_RULES
        blocks = tuple(rule.tree for rule in here if isinstance(rule, Block))
        if searched:
            return Active(self.version, blocks) if blocks else NO_RULES
        return Active(
            version=self.version,
            blocks=blocks,
            pins=tuple(sorted((rule.place - 1, rule.item_id) for rule in here if isinstance(rule, Pin))),
            quotas=tuple((rule.tree, rule.at_least, rule.at_most) for rule in here if isinstance(rule, Quota)),
            buries=tuple(rule.tree for rule in here if isinstance(rule, Bury)),
            boosts=tuple((rule.tree, rule.strength) for rule in here if isinstance(rule, Boost)),
        )


def parse(content: bytes | str, source: str) -> Rules:
    """FailedPrecondition names the source, the rule and the first thing that is wrong."""
    try:
        file = RuleFile.model_validate_json(content)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_context=False, include_url=False)[0]
        place, said = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        raise FailedPrecondition(f"{source}: {f'{place}: {said}' if place else said}") from None
    names = [rule.name for rule in file.rules]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise FailedPrecondition(f"{source}: two rules are called {twice}")
    return Rules(file)


class RuleBook:
    """The rules that count now: those of a file where there is one. A change that cannot be read, or contradicts itself,
    changes nothing."""

    def __init__(self, path: Path, required: bool = False) -> None:
        self._watched = Watched(path, MAX_FILE_BYTES)
        self._path = path
        self.rules = self._read() if required or path.exists() else Rules(RuleFile())

    async def follow(self) -> None:
        """Take up changes of the file, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Take up a change of the file now."""
        if not self._watched.changed():
            return
        try:
            self.rules = self._read()
            outcome = "taken"
            log.info("rules %s: %d count from now on", self.rules.version or "none", len(self.rules.file.rules))
        except WinnowError as wrong:
            log.warning("rules stay as they were: %s", wrong.detail)
            outcome = "refused"
        RULE_SETS.labels(outcome=outcome).inc()

    def _read(self) -> Rules:
        from services.gateway.rule_conflicts import conflicts

        rules = parse(self._watched.read(), str(self._path))
        if found := conflicts(rules.file.rules):
            raise FailedPrecondition(f"{self._path}: {found[0]}")
        return rules
