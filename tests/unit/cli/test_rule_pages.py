"""Quotas, pins and blocks that only together leave no page: found where there is none, never where there is one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import rule_pages
from cli.rule_pages import Part, contradictions, smallest, unkept
from services.gateway.rule_conflicts import Matches, conflicts
from services.gateway.rules import MAX_RULES, Block, Pin, Quota, Rule, parse
from services.gateway.slate import BLOCK, PLACES
from winnow.catalogue import Catalogue
from winnow.filters import holds
from winnow.types import Item

LATE = float("inf")
CHEAP: dict[str, Any] = {"field": "price", "op": "lt", "number": 20}


def among(*categories: str) -> dict[str, Any]:
    return {"field": "categories", "op": "in", "values": list(categories)}


def rule(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, **more}


def quota(name: str, of: dict[str, Any], least: int = 0, most: int = BLOCK, **more: Any) -> dict[str, Any]:
    return rule("quota", name, filter=of, at_least=least, at_most=most, **more)


def rules_of(*rules: dict[str, Any]) -> tuple[Rule, ...]:
    return parse(json.dumps({"rules": rules}), "rules.json").file.rules


def catalogue_of(items: Sequence[Item]) -> Catalogue:
    made = Catalogue()
    made.upsert(items)
    return made


def shop(**prices: Sequence[float]) -> Catalogue:
    """Items of one category each, by price: `x0`, `x1`, … of the category x."""
    items = [
        Item(f"{name}{n}", categories=(name,), price=float(price))
        for name, each in prices.items()
        for n, price in enumerate(each)
    ]
    return catalogue_of(items)


CHEAP_ONLY = shop(x=[5] * 20, y=[10] * 20, z=[50] * 20)
CASES = [
    (
        "two that a third one caps",
        CHEAP_ONLY,
        [quota("a", among("x"), 3), quota("b", among("y"), 3), quota("c", CHEAP, most=4)],
        "at least 3 of 20 items, b (rules.1) wants at least 3 of 20 items, c (rules.2) wants at most 4 of 40 items",
    ),
    (
        "pairs of which each shares items, all three together too many",
        shop(x=[5] * 20, y=[5] * 20, xy=[5]),
        [quota("a", among("x", "xy"), 6), quota("b", among("y", "xy"), 6)],
        "a (rules.0) wants at least 6 of 21 items, b (rules.1) wants at least 6 of 21 items",
    ),
    (
        "caps that leave places empty",
        shop(x=[5] * 20, y=[5] * 20, z=[5] * 20),
        [quota("a", among("x"), most=3), quota("b", among("y"), most=3), quota("c", among("z"), most=3)],
        "c (rules.2) wants at most 3 of 20 items",
    ),
    (
        "a pin in the room of two quotas",
        CHEAP_ONLY,
        [
            quota("a", among("x"), 5),
            quota("b", among("y"), 5),
            rule("pin", "p", item_id="z3", place=17),
        ],
        "p (rules.2) pins z3 to place 17, a (rules.0) wants at least 5",
    ),
    (
        "what a pin takes from the places before it",
        shop(x=[50, 5], y=[50] * 20),
        [quota("a", among("x"), 1), quota("c", CHEAP, most=0), rule("pin", "p", item_id="x0", place=20)],
        "no places 1 to 10 keep these 3 together: p (rules.2) pins x0 to place 20, a (rules.0) wants at least 1 of 2 items",
    ),
    (
        "what is left beside a block",
        shop(x=[5] * 20, y=[50] * 20, z=[50] * 20),
        [quota("a", among("x", "y"), 6), quota("c", CHEAP, most=4), rule("block", "d", filter=among("y"))],
        "d (rules.2) blocks 20 items, a (rules.0) wants at least 6 of 40 items, c (rules.1) wants at most 4 of 20 items",
    ),
]


@pytest.mark.parametrize(
    ("rules", "items", "said"),
    [(rules, items, said) for _, items, rules, said in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_only_many_rules_show_is_said_with_its_rules_and_their_places_in_the_file(
    rules: list[dict[str, Any]], items: Catalogue, said: str
) -> None:
    wanted = rules_of(*rules)
    assert conflicts(wanted, items) == [], "two by two nothing is wrong"
    found = contradictions(wanted, items)
    assert found.undecided == 0
    [one] = found.said
    assert said in one
    assert "ask less of one of them" in one


FINE = [
    ("room for all", CHEAP_ONLY, [quota("a", among("x"), 2), quota("b", among("y"), 2), quota("c", CHEAP, most=4)]),
    (
        "one item that serves two",
        shop(x=[5] * 20, xy=[5] * 9),
        [quota("a", among("x", "xy"), 9), quota("b", among("xy"), 9), quota("c", among("x"), most=1)],
    ),
    (
        "want of items is no contradiction",
        shop(x=[5] * 2, y=[10] * 2, z=[50] * 20),
        [quota("a", among("x"), 3), quota("b", among("y"), 3), quota("c", CHEAP, most=4)],
    ),
    (
        "want of other items is none, either",
        shop(x=[5] * 20, y=[50] * 2),
        [quota("a", CHEAP, most=4), quota("b", among("y"), most=4)],
    ),
    (
        "an item that a pin elsewhere takes",
        shop(x=[5], y=[50] * 20),
        [quota("a", among("x"), 1), rule("pin", "p", item_id="x0", place=50)],
    ),
    ("nothing for sale", catalogue_of([]), [quota("a", CHEAP, 3), quota("b", among("x"), 5)]),
    ("all blocked", CHEAP_ONLY, [quota("a", among("x"), most=3), rule("block", "d", filter={"not": among("nothing")})]),
]


@pytest.mark.parametrize(
    ("rules", "items"), [(rules, items) for _, items, rules in FINE], ids=[case[0] for case in FINE]
)
def test_what_can_be_kept_is_no_contradiction(rules: list[dict[str, Any]], items: Catalogue) -> None:
    assert contradictions(rules_of(*rules), items) == rule_pages.Verdict([])


# ------------------------------------------------------------------------- against every page that can be made

SORTS = ((("x",), 10.0), (("y",), 10.0), (("z",), 50.0), (("x", "y"), 10.0), (("x",), 50.0), ((), 50.0))
"""Categories and price: what there is several of."""
FILTERS = st.sampled_from(
    [
        *(among(*names) for names in ("x", "y", "z", "xy", "yz")),
        {"not": among("z")},
        {"all": [among("x"), among("y")]},
        CHEAP,
        {"not": CHEAP},
    ]
)
QUOTAS = st.one_of(
    st.tuples(FILTERS, st.integers(2, 6), st.just(BLOCK)),
    st.tuples(FILTERS, st.just(0), st.integers(1, 6)),
    st.tuples(FILTERS, st.integers(0, 5), st.integers(5, BLOCK)).filter(lambda one: one[1:] != (0, BLOCK)),
)
PINS = st.tuples(st.integers(0, 20), st.integers(1, 25))
BLOCKS = st.sampled_from([among("z"), {"all": [among("x"), CHEAP]}, {"all": [among("x"), {"not": CHEAP}]}])


@st.composite
def shops(draw: st.DrawFn) -> list[Item]:
    """A few dozen items, in no order."""
    numbers = [draw(st.sampled_from([1, 3, 12, 12])) for _ in SORTS]
    sorts = [sort for sort, n in zip(SORTS, numbers, strict=True) for _ in range(n)]
    return [Item(f"i{n}", categories=sort[0], price=sort[1]) for n, sort in enumerate(sorts)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Rule, ...], list[Item]]:
    """Rules that all count at once, and none of whose pins is blocked or of nothing: that two rules say already."""
    items = draw(shops())
    quotas = [quota(f"q{n}", *one) for n, one in enumerate(draw(st.lists(QUOTAS, min_size=3, max_size=6)))]
    blocks = [rule("block", f"b{n}", filter=of) for n, of in enumerate(draw(st.lists(BLOCKS, max_size=1)))]
    shown = may_be_shown(rules_of(*blocks), items)
    pins = [
        rule("pin", f"p{n}", item_id=shown[-1 - row].item_id, place=place)
        for n, (row, place) in enumerate(
            draw(st.lists(PINS, max_size=3, unique_by=(lambda pin: pin[0], lambda pin: pin[1])))
        )
        if row < len(shown)
    ]
    return rules_of(*draw(st.permutations([*quotas, *pins, *blocks]))), items


def may_be_shown(rules: Sequence[Rule], items: Sequence[Item]) -> list[Item]:
    return [item for item in items if not any(isinstance(one, Block) and holds(one.tree, item) for one in rules)]


def stock(rules: Sequence[Rule], items: Sequence[Item], start: int) -> tuple[list[Item], list[Item]]:
    """What is pinned in the ten places from `start` on, and what else may stand there."""
    places = {one.item_id: one.place for one in rules if isinstance(one, Pin)}
    shown = may_be_shown(rules, items)
    pinned = [item for item in shown if start < places.get(item.item_id, 0) <= start + BLOCK]
    return pinned, [item for item in shown if item.item_id not in places]


def pages(rules: Sequence[Rule], items: Sequence[Item], start: int, size: int) -> Iterator[list[Item]]:
    """All that can stand in so many places; one page for all that differ by items of the same sort."""
    pinned, others = stock(rules, items, start)
    sorts = [[item for item in others if (item.categories, item.price) == sort] for sort in SORTS]
    for numbers in product(*(range(min(len(some), size - len(pinned)) + 1) for some in sorts)):
        if sum(numbers) == size - len(pinned):
            yield [*pinned, *(item for some, n in zip(sorts, numbers, strict=True) for item in some[:n])]


def bounds(rules: Sequence[Rule], items: Sequence[Item], start: int) -> tuple[int, dict[str, tuple[int, int]]]:
    """How many places are filled, and how many of them a quota that is alone would get, as far as there are items."""
    pinned, others = stock(rules, items, start)
    size, found = min(BLOCK, len(pinned) + len(others)), {}
    for one in rules:
        if isinstance(one, Quota):
            own = sum(holds(one.tree, item) for item in (*pinned, *others))
            found[one.name] = min(one.at_least, own), max(one.at_most, size - (len(pinned) + len(others) - own))
    return size, found


def can_be_kept(rules: Sequence[Rule], items: Sequence[Item], start: int, all_rules: Sequence[Rule]) -> bool:
    """By some page of all that there are."""
    size, asked = bounds(all_rules, items, start)
    return any(
        all(
            asked[one.name][0] <= sum(holds(one.tree, item) for item in page) <= asked[one.name][1]
            for one in rules
            if isinstance(one, Quota)
        )
        for page in pages(rules, items, start, size)
    )


@settings(max_examples=100)
@given(cases())
def test_no_page_that_could_be_made_is_missed_and_none_is_made_up(case: tuple[tuple[Rule, ...], list[Item]]) -> None:
    rules, items = case
    catalogue = catalogue_of(items)
    right = all(can_be_kept(rules, items, start, rules) for start in range(0, PLACES, BLOCK))
    found, pairs = contradictions(rules, catalogue), conflicts(rules, catalogue)
    assert found.undecided == 0
    assert found.said[: len(pairs)] == pairs
    if right:
        assert found.said == pairs
    else:
        assert found.said


@settings(max_examples=100)
@given(cases())
def test_the_few_that_are_named_contradict_each_other_and_with_one_less_they_do_not(
    case: tuple[tuple[Rule, ...], list[Item]],
) -> None:
    rules, items = case
    parts: list[Part] = [one for one in rules if isinstance(one, Block | Pin | Quota)]
    here = Matches(rules, catalogue_of(items))
    clash = unkept(parts, here, LATE)
    if clash is None:
        return
    ten, some = clash
    few = smallest(some, ten, here, LATE)
    assert not can_be_kept(few, items, ten.start, rules)
    for one in few:
        assert can_be_kept([other for other in few if other is not one], items, ten.start, rules)


def test_the_solver_finds_a_page_that_filling_place_by_place_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places are left for six wants: the item that serves four of them leaves two that no single one serves."""
    halves = [Item("abc", categories=("a", "b", "c")), Item("def", categories=("d", "e", "f"))]
    items = catalogue_of([*halves, Item("bcde", categories=("b", "c", "d", "e")), *(Item(f"i{n}") for n in range(8))])
    wanted = [quota(name, among(name), 1) for name in "abcdef"]
    pins = [rule("pin", f"p{n}", item_id=f"i{n}", place=n + 1) for n in range(8)]
    real, asked = rule_pages.solved, []

    def solved(*some: Any) -> Any:
        asked.append(some)
        return real(*some)

    monkeypatch.setattr(rule_pages, "solved", solved)
    assert contradictions(rules_of(*wanted, *pins), items) == rule_pages.Verdict([])
    assert asked
    monkeypatch.setattr(rule_pages, "KINDS", 1)
    assert contradictions(rules_of(*wanted, *pins), items) == rule_pages.Verdict([], 1), "more than it is asked about"


def test_what_is_not_found_out_in_time_is_no_contradiction_and_is_counted() -> None:
    _, items, rules, _ = CASES[0]
    there = [{**one, "surfaces": ["home"]} for one in rules]
    assert contradictions(rules_of(*there), items, limit_s=-1.0) == rule_pages.Verdict([], 1)


def test_what_does_not_count_together_is_not_added_up() -> None:
    _, items, rules, _ = CASES[0]
    for first, other in (
        ({"surfaces": ["home"]}, {"surfaces": ["cart"]}),
        ({"lists": ["recommend"]}, {"lists": ["similar"]}),
        ({"ends_at": "2026-05-01T00:00:00Z"}, {"starts_at": "2026-05-01T00:00:00Z"}),
    ):
        assert contradictions(rules_of(*(one | first for one in rules[:2]), rules[2] | other), items).said == []
    assert (
        len(contradictions(rules_of(*(one | {"surfaces": ["home"]} for one in rules[:2]), rules[2]), items).said) == 1
    )


def test_all_that_is_wrong_is_said_at_once_and_nothing_twice() -> None:
    _, items, first, _ = CASES[0]
    second = [{**one, "name": f"other-{one['name']}", "lists": ["similar"]} for one in first]
    said = contradictions(rules_of(*first, *second), items).said
    assert [text.count("other-") for text in said] == [0, 3]
    pins = [rule("pin", f"p{n}", item_id="z1", place=n) for n in (1, 2)]
    assert contradictions(rules_of(*pins, quota("a", among("x"), 3)), items).said == ["p1 and p2 pin z1 to two places"]


@pytest.mark.parametrize("groups", [30, 200], ids=["many items are alike", "no two items are alike"])
def test_many_rules_over_many_items_are_checked_in_seconds(groups: int) -> None:
    random, each = np.random.default_rng(7), groups // 20
    items = catalogue_of(
        [
            Item(f"i{n}", categories=tuple(f"c{k}" for k in random.choice(groups, each)), price=float(n % 50))
            for n in range(100_000)
        ]
    )
    cheap = {"field": "price", "op": "lt", "number": 40}
    many = [
        quota(
            f"q{n}",
            {"all": [among(f"c{n % groups}"), cheap]},
            int(n % 40 == 0),
            6,
            **({"surfaces": [f"s{n % 7}"], "countries": [f"c{n % 5}"]} if n % 2 and groups < MAX_RULES else {}),
        )
        for n in range(MAX_RULES)
    ]
    began = time.process_time()
    assert contradictions(rules_of(*many), items) == rule_pages.Verdict([])
    assert time.process_time() - began < 15
