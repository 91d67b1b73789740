"""Whether rules contradict each other: asked when they are published, over the catalogue, and again by every gateway.

Two rules can only meet where both count: for one kind of list, surface, device and country, at one moment. Without a
catalogue only what the rules themselves say is compared; with one, the items that their filters match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from services.gateway.rules import Block, Boost, Bury, Filtered, Pin, Quota, Rule
from services.gateway.slate import BLOCK
from winnow.catalogue import Catalogue, Mask


def conflicts(rules: Sequence[Rule], catalogue: Catalogue | None = None) -> list[str]:
    """What is wrong, a sentence each, naming the rules; nothing where they can all be kept."""
    return list(dict.fromkeys(found(rules, catalogue)))


def found(rules: Sequence[Rule], catalogue: Catalogue | None) -> Iterator[str]:
    here = Matches(catalogue)
    for one, other in combinations(rules, 2):
        if meet(one, other):
            yield from between(one, other, here)
    for rule in rules:
        yield from alone(rule, [other for other in rules if other is not rule and meet(rule, other)], here)


class Matches:
    """The items of a catalogue that filters match."""

    def __init__(self, catalogue: Catalogue | None) -> None:
        self.catalogue = catalogue
        self._masks: dict[str, Mask] = {}

    def mask(self, rule: Filtered) -> Mask:
        assert self.catalogue is not None
        if rule.name not in self._masks:
            self._masks[rule.name] = self.catalogue.mask(rule.tree)
        return self._masks[rule.name]

    def both(self, one: Filtered, other: Filtered) -> str:
        """What both match, in words; "" for nothing that is known."""
        if one.tree == other.tree:
            return "the same items"
        if self.catalogue is None:
            return ""
        rows = np.flatnonzero(self.mask(one) & self.mask(other))
        return f"{len(rows)} items, {self.catalogue.ids[rows[0]]} among them" if len(rows) else ""

    def within(self, one: Filtered, other: Filtered) -> bool:
        """Whether all that one matches is matched by the other, and there is any."""
        if one.tree == other.tree:
            return True
        if self.catalogue is None:
            return False
        mask = self.mask(one)
        return bool(mask.any() and not (mask & ~self.mask(other)).any())

    def has(self, rule: Filtered, item_id: str) -> bool:
        if self.catalogue is None or (row := int(self.catalogue.rows([item_id])[0])) < 0:
            return False
        return bool(self.mask(rule)[row])


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


def alone(rule: Rule, others: Sequence[Rule], here: Matches) -> Iterator[str]:
    """What one rule asks of the places that it shares with others."""
    if isinstance(rule, Quota):
        least = [rule, *(other for other in others if isinstance(other, Quota) and other.at_least)]
        if rule.at_least and sum(quota.at_least for quota in least) > BLOCK:
            yield f"{', '.join(sorted(quota.name for quota in least))} together want more than {BLOCK} of {BLOCK} places"
        pins = [other for other in others if isinstance(other, Pin) and here.has(rule, other.item_id)]
        for start in range(0, max((pin.place for pin in pins), default=0), BLOCK):
            inside = [pin.name for pin in pins if start < pin.place <= start + BLOCK]
            if len(inside) > rule.at_most:
                yield f"{', '.join(inside)} pin more than the {rule.at_most} that {rule.name} allows in ten places"
    elif isinstance(rule, Pin) and here.catalogue is not None and rule.item_id not in here.catalogue:
        yield f"{rule.name} pins {rule.item_id}, which is not in the catalogue"
