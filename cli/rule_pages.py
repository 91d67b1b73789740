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
AT_A_TIME = 4  # quotas that are put to the solver
TOLD = 20  # rules of one sentence
KINDS = 5_000  # of items that the solver is asked about: of more it may think for minutes, whatever its limit

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
            while (clash := unkept(left, here, until)) is not None:
                ten, some = clash
                few = smallest(some, ten, here, until)
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


def unkept(parts: Sequence[Part], here: Matches, until: float) -> tuple[Ten, list[Part]] | None:
    """Ten places in which the rules cannot all be kept, and some of them that cannot; None: there are none. Places without a
    pin are all alike."""
    pinned = {start_of(rule) for rule in parts if isinstance(rule, Pin)}
    free = [start for start in range(0, PLACES, BLOCK) if start not in pinned][:1]
    for start in (*sorted(pinned), *free):
        ten = asked(parts, start, here)
        if some := clashing(parts, ten, here, until):
            return ten, some
    return None


def smallest(parts: list[Part], ten: Ten, here: Matches, until: float) -> list[Part]:
    """Rules of these that cannot be kept together, of which each one less could: halves are left out, then quarters, and at
    last single ones, as long as the others still contradict each other (Zeller and Hildebrandt, TSE 2002). Where the time
    ends before, more than that."""
    step = len(parts)
    while step > 1:
        step, start = step // 2, 0
        while start < len(parts):
            try:
                rest = clashing([*parts[:start], *parts[start + step :]], ten, here, until)
            except Undecided:
                rest = []
            if rest:
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


def page(parts: Sequence[Part], quotas: Sequence[Quota], ten: Ten, here: Matches) -> Page:
    """What some of the rules ask of ten places of which all are asked something: with fewer rules it is never harder."""
    low, high = stock(parts, ten.start, here)
    own = np.array([here.mask(rule) for rule in quotas], np.bool_).reshape(len(quotas), len(high))
    least, most = np.array([ten.bounds[rule.name] for rule in quotas], np.int64).reshape(-1, 2).T
    there = high > 0
    return Page(ten.size, low[there], high[there], own[:, there], least, most)


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


def clashing(parts: Sequence[Part], ten: Ten, here: Matches, until: float) -> list[Part]:
    """Some of the rules for which there is no page; none where there is one for all. Undecided: the time is over.

    A page is filled item by item; mostly that keeps them all. Quotas that it broke are put to the solver, and where those can
    be kept, what breaks then is added to them: few quotas have few kinds of items, and if few cannot be kept, all cannot.
    """
    if time.monotonic() > until:
        raise Undecided
    quotas = [rule for rule in parts if isinstance(rule, Quota)]
    whole, chosen = page(parts, quotas, ten, here), np.zeros(0, np.int64)
    numbers = filled(whole, np.zeros(len(whole.high), np.int64), np.array([whole.size]))
    while len(broken := np.flatnonzero(missed(whole, numbers))):
        chosen = np.union1d(chosen, broken[:AT_A_TIME])
        some, each = alike(whole, chosen)
        solution = solved(some, until)
        if solution is None:
            return [*(rule for rule in parts if not isinstance(rule, Quota)), *(quotas[n] for n in chosen)]
        numbers = filled(whole, each, solution)
    return []


def missed(whole: Page, numbers: Rows) -> npt.NDArray[np.bool_]:
    """(quotas,) which of them a page with so many items of each kind does not keep."""
    there = np.flatnonzero(numbers)
    have = whole.own[:, there] @ numbers[there]
    return (have < whole.least) | (have > whole.most)


def filled(whole: Page, each: Rows, wanted: Rows) -> Rows:
    """(kinds,) numbers of items, of which groups of kinds, `each` (kinds,), get as many as are `wanted` (groups,): one by
    one what breaks the fewest quotas, and serves most of those that lack something."""
    numbers, own = whole.low.copy(), whole.own.astype(np.float32)
    left = wanted - np.bincount(each, numbers, len(wanted)).astype(np.int64)
    have = whole.own @ numbers
    capped = whole.most < whole.size
    for _ in range(int(left.sum())):
        lacks, full = have < whole.least, have >= whole.most
        worth = lacks * np.float32(len(own) + 1) - capped - full * np.float32((len(own) + 1) ** 2)
        free = (numbers < whole.high) & (left[each] > 0)
        best = int(np.where(free, worth.astype(np.float32) @ own, -np.inf).argmax())
        numbers[best] += 1
        left[each[best]] -= 1
        have = have + whole.own[:, best]
    return numbers


def alike(whole: Page, quotas: Rows) -> tuple[Page, Rows]:
    """The page of some of its quotas, with kinds put together that these do not tell apart, and which of them each was."""
    own = whole.own[quotas]
    first, each = columns(own)
    low, high = (np.bincount(each, some, len(first)).astype(np.int64) for some in (whole.low, whole.high))
    small = np.minimum(high, whole.size)
    return Page(whole.size, low, small, own[:, first], whole.least[quotas], whole.most[quotas]), each


def solved(some: Page, until: float) -> Rows | None:
    """(kinds,) a page, found as an integer programme by HiGHS; None: there is none. Undecided: the time is over."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    left_s = until - time.monotonic()
    if left_s <= 0 or len(some.high) > KINDS:
        raise Undecided
    own = np.vstack([some.own, np.ones(len(some.high), np.bool_)]).astype(np.float64)
    done = milp(
        np.zeros(len(some.high)),
        integrality=np.ones(len(some.high)),
        bounds=Bounds(some.low, some.high),
        constraints=LinearConstraint(own, np.append(some.least, some.size), np.append(some.most, some.size)),
        options={"time_limit": left_s},
    )
    if done.status == INFEASIBLE:
        return None
    if done.x is None:
        raise Undecided
    numbers: Rows = np.rint(done.x).astype(np.int64)
    fits = numbers.sum() == some.size and (some.low <= numbers).all() and (numbers <= some.high).all()
    if not fits or missed(some, numbers).any():
        raise Undecided
    return numbers


def sentence(few: Sequence[Part], ten: Ten, here: Matches, numbers: Mapping[str, int]) -> str:
    pinned = any(isinstance(rule, Pin) for rule in few)
    places = f"places {ten.start + 1} to {ten.start + BLOCK}" if pinned else f"{BLOCK} places"
    told = ", ".join(f"{rule.name} (rules.{numbers[rule.name]}) {does(rule, here)}" for rule in few[:TOLD])
    told += f" and {len(few) - TOLD} more" if len(few) > TOLD else ""
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
