"""Whether rules that count at once leave a page: ten places with items of a catalogue that keep all of them.

Pairs of rules are `services.gateway.rule_conflicts`; here quotas, pins and blocks are looked at together, which takes a
solver that no service has. All that matters of an item is which filters match it, so a page is a number of items of each
kind. Rules are kept as far as there are items, so want of them contradicts nothing: a quota of six where four match asks
for four, one of at most two where three others are left allows seven, and a short catalogue fills fewer places. Each ten
places are looked at as if they came first, since items that are used up there are want of them, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.gateway.rule_conflicts import Matches, columns, found, together
from services.gateway.rules import Block, Pin, Quota, Rule
from services.gateway.slate import BLOCK, PLACES
from winnow.catalogue import Catalogue, Rows

LIMIT_S = 10.0  # for all sets of rules of a file
INFEASIBLE = 2  # as scipy.optimize.milp says it

Part = Block | Pin | Quota


class Undecided(Exception):
    """The time is over, or the solver does not know."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`said`: what cannot be kept, a sentence each. `undecided`: of how many sets of rules that is not known."""

    said: list[str]
    undecided: int = 0


@dataclass(frozen=True, slots=True)
class Ten:
    """Ten places from `start` on, counted from 0, and what rules that count at once ask of them: how many of the places
    are filled, and of each quota at least and at most how many, as far as there are items."""

    start: int
    size: int
    bounds: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Page:
    """`size` places: between `low` and `high` (kinds,) for items of each kind, between `least` and `most` (quotas,) for
    those of the kinds that are a quota's `own` (quotas, kinds)."""

    size: int
    low: Rows
    high: Rows
    own: npt.NDArray[np.bool_]
    least: Rows
    most: Rows


def contradictions(rules: Sequence[Rule], catalogue: Catalogue, limit_s: float = LIMIT_S) -> Verdict:
    """What rules say against each other, two by two and all together."""
    here = Matches(rules, catalogue)
    said = dict.fromkeys(found(rules, here))
    until = time.monotonic() + limit_s
    numbers = {rule.name: n for n, rule in enumerate(rules)}
    known: list[list[Part]] = []  # rules that cannot be kept together
    undecided = 0
    for parts in settled_together(rules, here):
        left = without(parts, known)
        try:
            while (ten := unkept(left, here, until)) is not None:
                few = smallest(left, ten, here, until)
                said |= dict.fromkeys([*found(few, here)] or [sentence(few, ten, here, numbers)])
                known.append(few)
                left = without(left, known)
        except Undecided:
            undecided += 1
    return Verdict(list(said), undecided)


def settled_together(rules: Sequence[Rule], here: Matches) -> Iterator[list[Part]]:
    """Of each set of rules that count at once those that say what stands in ten places, every such set once."""
    seen: set[tuple[str, ...]] = set()
    for active in together(rules):
        blocks = [rule for rule in active if isinstance(rule, Block)]
        quotas = [rule for rule in active if isinstance(rule, Quota)]
        parts: list[Part] = [*blocks, *standing(active, blocks, here), *quotas]
        names = tuple(rule.name for rule in parts)
        if quotas and names not in seen:
            seen.add(names)
            yield parts


def standing(active: Sequence[Rule], blocks: Sequence[Block], here: Matches) -> list[Pin]:
    """The pins without those that contradict another rule by themselves, which `found` says."""
    pins: dict[int, Pin] = {}
    for pin in (rule for rule in active if isinstance(rule, Pin)):
        free = here.kind(pin.item_id) is not None and not any(here.has(block, pin.item_id) for block in blocks)
        if free and all(pin.item_id != other.item_id for other in pins.values()):
            pins.setdefault(pin.place, pin)
    return list(pins.values())


def without(parts: Sequence[Part], known: Sequence[Sequence[Part]]) -> list[Part]:
    """The rules less one of each few that are known to contradict each other, so that what is left has its own say."""
    left = {rule.name: rule for rule in parts}
    for few in known:
        if all(rule.name in left for rule in few):
            del left[few[-1].name]
    return list(left.values())


def unkept(parts: Sequence[Part], here: Matches, until: float) -> Ten | None:
    """Ten places in which the rules cannot all be kept; None: there are none. Places without a pin are all alike."""
    pinned = {start_of(rule) for rule in parts if isinstance(rule, Pin)}
    free = [start for start in range(0, PLACES, BLOCK) if start not in pinned][:1]
    for start in (*sorted(pinned), *free):
        ten = asked(parts, start, here)
        if not kept(parts, ten, here, until):
            return ten
    return None


def smallest(parts: list[Part], ten: Ten, here: Matches, until: float) -> list[Part]:
    """Rules of these that cannot be kept together, of which each one less could: halves are left out, then quarters, and at
    last single ones, as long as the others still contradict each other (Zeller and Hildebrandt, TSE 2002)."""

    def contradict(some: Sequence[Part]) -> bool:
        try:
            return not kept(some, ten, here, until)
        except Undecided:
            return False

    step = len(parts)
    while step > 1:
        step, start = step // 2, 0
        while start < len(parts):
            rest = [*parts[:start], *parts[start + step :]]
            if contradict(rest):
                parts = rest
            else:
                start += step
    return parts


def asked(parts: Sequence[Part], start: int, here: Matches) -> Ten:
    _, high = stock(parts, start, here)
    total = int(high.sum())
    size = min(BLOCK, total)
    bounds: dict[str, tuple[int, int]] = {}
    for rule in parts:
        if isinstance(rule, Quota):
            own = int(high[here.mask(rule)].sum())
            others = total - own
            bounds[rule.name] = min(rule.at_least, own), min(size, max(rule.at_most, size - others))
    return Ten(start, size, bounds)


def page(parts: Sequence[Part], ten: Ten, here: Matches) -> Page:
    """What some of the rules ask of ten places of which all are asked something: with fewer rules it is never harder."""
    low, high = stock(parts, ten.start, here)
    quotas = [rule for rule in parts if isinstance(rule, Quota) and ten.bounds[rule.name] != (0, ten.size)]
    own = np.array([here.mask(rule) for rule in quotas], np.bool_).reshape(len(quotas), len(high))
    least, most = np.array([ten.bounds[rule.name] for rule in quotas], np.int64).reshape(-1, 2).T
    return alike(Page(ten.size, low, high, own, least, most))


def stock(parts: Sequence[Part], start: int, here: Matches) -> tuple[Rows, Rows]:
    """(kinds,) how many items of each stand in the ten places in any case, and may at most."""
    low, high = np.zeros_like(here.counts), here.counts.copy()
    for rule in parts:
        if isinstance(rule, Block):
            high[here.mask(rule)] = 0
    for rule in parts:
        if isinstance(rule, Pin) and (kind := here.kind(rule.item_id)) is not None:
            low[kind] += start_of(rule) == start
            high[kind] -= start_of(rule) != start
    return low, high


def start_of(pin: Pin) -> int:
    return (pin.place - 1) // BLOCK * BLOCK


def alike(whole: Page) -> Page:
    """The same with kinds put together that its quotas do not tell apart."""
    there = whole.high > 0
    own = whole.own[:, there]
    first, each = columns(own)
    low, high = (np.bincount(each, some[there], len(first)).astype(np.int64) for some in (whole.low, whole.high))
    return Page(whole.size, low, np.minimum(high, whole.size), own[:, first], whole.least, whole.most)


def kept(parts: Sequence[Part], ten: Ten, here: Matches, until: float) -> bool:
    """Whether there is a page for these rules. Undecided: the time is over."""
    if time.monotonic() > until:
        raise Undecided
    whole = page(parts, ten, here)
    return fits(whole, filled(whole)) or solved(whole, until)


def fits(whole: Page, numbers: Rows) -> bool:
    have = whole.own @ numbers
    return bool(
        numbers.sum() == whole.size
        and (whole.low <= numbers).all()
        and (numbers <= whole.high).all()
        and (whole.least <= have).all()
        and (have <= whole.most).all()
    )


def filled(whole: Page) -> Rows:
    """(kinds,) a page filled item by item with what serves most quotas that lack something and fewest that are capped;
    mostly that keeps them all, and no solver need be asked."""
    numbers, own = whole.low.copy(), whole.own.astype(np.float32)
    have = whole.own @ numbers
    capped = (whole.most < whole.size).astype(np.float32)
    for _ in range(whole.size - int(numbers.sum())):
        free = (numbers < whole.high) & ~whole.own[have >= whole.most].any(axis=0)
        if not free.any():
            break
        lacks = (have < whole.least) * np.float32(len(own) + 1)
        best = int(np.where(free, (lacks - capped) @ own, -np.inf).argmax())
        numbers[best] += 1
        have = have + whole.own[:, best]
    return numbers


def solved(whole: Page, until: float) -> bool:
    """The same as an integer programme, by HiGHS."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    own = csr_array(np.vstack([whole.own, np.ones((1, len(whole.high)), np.bool_)]).astype(np.float64))
    limits = LinearConstraint(own, np.append(whole.least, whole.size), np.append(whole.most, whole.size))
    done = milp(
        np.zeros(len(whole.high)),
        integrality=np.ones(len(whole.high)),
        bounds=Bounds(whole.low, whole.high),
        constraints=limits,
        options={"time_limit": max(0.01, until - time.monotonic())},
    )
    if done.status == INFEASIBLE:
        return False
    if done.x is None or not fits(whole, np.rint(done.x).astype(np.int64)):
        raise Undecided
    return True


def sentence(few: Sequence[Part], ten: Ten, here: Matches, numbers: Mapping[str, int]) -> str:
    pinned = any(isinstance(rule, Pin) for rule in few)
    places = f"places {ten.start + 1} to {ten.start + BLOCK}" if pinned else f"{BLOCK} places"
    told = ", ".join(f"{rule.name} (rules.{numbers[rule.name]}) {does(rule, here)}" for rule in few)
    return (
        f"no {places} keep these {len(few)} together: {told}; ask less of one of them, end it, or let it count for"
        " other lists, contexts or times"
    )


def does(rule: Part, here: Matches) -> str:
    if isinstance(rule, Pin):
        return f"pins {rule.item_id} to place {rule.place}"
    n = f"{int(here.counts[here.mask(rule)].sum()):,} items"
    if isinstance(rule, Block):
        return f"blocks {n}"
    least = [f"at least {rule.at_least}"] if rule.at_least else []
    most = [f"at most {rule.at_most}"] if rule.at_most < BLOCK else []
    return f"wants {' and '.join(least + most)} of {n}"
