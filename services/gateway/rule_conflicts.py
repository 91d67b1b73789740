"""Whether rules contradict each other: asked when they are published, over the catalogue, and again by every gateway.

Two rules can only meet where both count: for one kind of list, surface, device and country, at one moment. Without a
catalogue only what the rules themselves say is compared; with one, the items that their filters match.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations

import numpy as np

from services.gateway.rules import EVERY_LIST, Block, Boost, Bury, Filtered, Pin, Quota, Rule
from services.gateway.slate import BLOCK, PLACES
from winnow.catalogue import Catalogue, Mask, Rows

SETS = 20_000  # of rules that count at once that are looked at
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def conflicts(rules: Sequence[Rule], catalogue: Catalogue | None = None) -> list[str]:
    """What is wrong, a sentence each, naming the rules; nothing where no rule contradicts another. Whether many of them
    can be kept together is `cli.rule_pages`: it takes a solver that no service has."""
    return list(dict.fromkeys(found(rules, Matches(rules, catalogue))))


def found(rules: Sequence[Rule], here: Matches) -> Iterator[str]:
    for one, other in combinations(rules, 2):
        if meet(one, other):
            yield from between(one, other, here)
    if here.catalogue is None:
        return
    for rule in rules:
        if isinstance(rule, Pin) and here.kind(rule.item_id) is None:
            yield f"{rule.name} pins {rule.item_id}, which is not in the catalogue"
    for active in together(rules):
        yield from of_places(active, here)


def together(rules: Sequence[Rule]) -> list[list[Rule]]:
    """The sets of rules that count at once, for every list, context and moment that some rule tells from others; the first
    `SETS` of them, which are all unless rules name very many countries, surfaces, devices and moments."""
    sets = [(1 << len(rules)) - 1]  # a bit a rule
    for cases in told_apart(rules):
        sets = distinct(one & case for one in sets for case in cases)
    return [[rule for n, rule in enumerate(rules) if one >> n & 1] for one in sets]


def told_apart(rules: Sequence[Rule]) -> Iterator[list[int]]:
    """By kind of list, surface, device, country and moment: which rules count, in each case that makes a difference."""
    yield distinct(bits(kind in rule.lists for rule in rules) for kind in EVERY_LIST)
    for named in (
        [rule.surfaces for rule in rules],
        [rule.devices for rule in rules],
        [rule.countries for rule in rules],
    ):
        words = ["", *sorted({word for some in named for word in some})]
        yield distinct(bits(not some or word in some for some in named) for word in words)
    moments = {at for rule in rules for at in (rule.starts_at, rule.ends_at) if at}
    yield distinct(
        bits((rule.starts_at or LONG_AGO) <= at and (rule.ends_at is None or at < rule.ends_at) for rule in rules)
        for at in (LONG_AGO, *sorted(moments))
    )


def bits(marks: Iterable[bool]) -> int:
    return sum(1 << n for n, marked in enumerate(marks) if marked)


def distinct(sets: Iterable[int]) -> list[int]:
    """The first `SETS` different ones."""
    known: dict[int, None] = {}
    for one in sets:
        if len(known) == SETS:
            break
        known[one] = None
    return list(known)


def of_places(active: Sequence[Rule], here: Matches) -> Iterator[str]:
    """What rules that count at once ask of ten places."""
    quotas = [rule for rule in active if isinstance(rule, Quota)]
    pins = [rule for rule in active if isinstance(rule, Pin)]
    blocks = [rule for rule in active if isinstance(rule, Block)]
    if not quotas:
        return
    least = here.apart(sorted((rule for rule in quotas if rule.at_least), key=lambda rule: -rule.at_least))
    if sum(rule.at_least for rule in least) > BLOCK:
        yield f"{', '.join(sorted(rule.name for rule in least))} together want more than {BLOCK} of {BLOCK} places"
    for rule in quotas:
        if rule.at_least and (gone := here.covered(rule, blocks)):
            yield f"{rule.name} wants {rule.at_least} of every {BLOCK} places for items that {gone} block"
        for start in range(0, PLACES, BLOCK):
            inside = [pin for pin in pins if start < pin.place <= start + BLOCK]
            own = [pin.name for pin in inside if here.has(rule, pin.item_id)]
            if len(own) > rule.at_most:
                yield f"{', '.join(own)} pin more than the {rule.at_most} that {rule.name} allows in ten places"
            others = [pin.name for pin in inside if not here.has(rule, pin.item_id)]
            if len(others) > BLOCK - rule.at_least:
                yield f"{', '.join(others)} leave less than the {rule.at_least} places that {rule.name} wants of ten"


class Matches:
    """The items of a catalogue that filters match, by kind: two items are of one where all filters say the same of both.
    There are far fewer kinds than items. Without a catalogue nothing is known."""

    def __init__(self, rules: Sequence[Rule], catalogue: Catalogue | None) -> None:
        self.catalogue = catalogue
        if catalogue is None:
            return
        filtered = [rule for rule in rules if isinstance(rule, Filtered)]
        masks = np.zeros((len(filtered), len(catalogue)), np.bool_)
        for n, rule in enumerate(filtered):
            masks[n] = catalogue.mask(rule.tree)
        self.first, self._kinds = columns(masks)  # (kinds,) the first row of each in the catalogue; (items,)
        self.counts: Rows = np.bincount(self._kinds, minlength=len(self.first))  # (kinds,) how many items
        self._masks: dict[str, Mask] = {rule.name: masks[n, self.first] for n, rule in enumerate(filtered)}

    def mask(self, rule: Filtered) -> Mask:
        """(kinds,) which of them the rule is about."""
        return self._masks[rule.name]

    def kind(self, item_id: str) -> int | None:
        """None: there is no such item."""
        row = -1 if self.catalogue is None else int(self.catalogue.rows([item_id])[0])
        return None if row < 0 else int(self._kinds[row])

    def both(self, one: Filtered, other: Filtered) -> str:
        """What both match, in words; "" for nothing that is known."""
        if one.tree == other.tree:
            return "the same items"
        if self.catalogue is None:
            return ""
        shared = self.mask(one) & self.mask(other)
        if not shared.any():
            return ""
        return f"{self.counts[shared].sum()} items, {self.catalogue.ids[self.first[shared].min()]} among them"

    def within(self, one: Filtered, other: Filtered) -> bool:
        """Whether all that one matches is matched by the other, and there is any."""
        if one.tree == other.tree:
            return True
        if self.catalogue is None:
            return False
        mask = self.mask(one)
        return bool(mask.any() and not (mask & ~self.mask(other)).any())

    def apart(self, rules: Sequence[Quota]) -> list[Quota]:
        """Some of the rules, of which no two match one item: the first, and each next one that fits to those before."""
        taken, chosen = np.zeros(len(self.counts), np.bool_), []
        for rule in rules:
            if not (self.mask(rule) & taken).any():
                chosen.append(rule)
                taken |= self.mask(rule)
        return chosen

    def covered(self, rule: Filtered, others: Sequence[Filtered]) -> str:
        """Several others that together match all that the rule matches, by name; "" where they do not."""
        left = self.mask(rule)
        if len(others) < 2 or not left.any():
            return ""
        for other in others:
            left = left & ~self.mask(other)
        return (
            ""
            if left.any()
            else " and ".join(other.name for other in others if (self.mask(rule) & self.mask(other)).any())
        )

    def has(self, rule: Filtered, item_id: str) -> bool:
        kind = self.kind(item_id)
        return kind is not None and bool(self.mask(rule)[kind])


def columns(masks: Mask) -> tuple[Rows, Rows]:
    """Of (m, n) masks: where each different column stands first, and which of these every column is (n,)."""
    packed = np.packbits(np.vstack([masks, np.zeros((1, masks.shape[1]), np.bool_)]), axis=0).T
    _, first, each = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return first, each.reshape(-1)


def meet(one: Rule, other: Rule) -> bool:
    """Whether there is a list for which both count."""
    return (
        not set(one.lists).isdisjoint(other.lists)
        and all(
            not mine or not theirs or not set(mine).isdisjoint(theirs)
            for mine, theirs in (
                (one.surfaces, other.surfaces),
                (one.devices, other.devices),
                (one.countries, other.countries),
            )
        )
        and (one.ends_at is None or other.starts_at is None or other.starts_at < one.ends_at)
        and (other.ends_at is None or one.starts_at is None or one.starts_at < other.ends_at)
    )


def between(one: Rule, other: Rule, here: Matches) -> Iterator[str]:
    pair = f"{one.name} and {other.name}"
    match one, other:
        case Pin(), Pin():
            if one.place == other.place:
                yield f"{pair} pin two items to place {one.place}"
            if one.item_id == other.item_id:
                yield f"{pair} pin {one.item_id} to two places"
        case (Boost() as boost, Bury() as bury) | (Bury() as bury, Boost() as boost):
            if shared := here.both(boost, bury):
                yield f"{boost.name} boosts what {bury.name} buries: {shared}"
        case (Pin() as pin, Block() as block) | (Block() as block, Pin() as pin):
            if here.has(block, pin.item_id):
                yield f"{pin.name} pins {pin.item_id}, which {block.name} blocks"
        case (Quota() as quota, Block() as block) | (Block() as block, Quota() as quota):
            if quota.at_least and here.within(quota, block):
                yield f"{quota.name} wants {quota.at_least} of every {BLOCK} places for items that {block.name} blocks"
        case (Boost() as boost, Block() as block) | (Block() as block, Boost() as boost):
            if here.within(boost, block):
                yield f"{boost.name} boosts nothing but what {block.name} blocks"
        case (Quota() as quota, Bury() as bury) | (Bury() as bury, Quota() as quota):
            if quota.at_least and here.within(quota, bury):
                yield f"{quota.name} wants {quota.at_least} of every {BLOCK} places for items that {bury.name} buries"
        case Quota(), Quota():
            for least, most in ((one, other), (other, one)):
                if least.at_least > most.at_most and here.within(least, most):
                    yield (
                        f"{least.name} wants at least {least.at_least} of every {BLOCK} places, and {most.name} at most "
                        f"{most.at_most}, for items that both match"
                    )
        case _:
            pass
