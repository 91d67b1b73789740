"""Business rules as words: what a file may say, when a rule counts, which rules contradict each other, how a gateway follows."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.gateway.build import rules_file
from services.gateway.rule_conflicts import conflicts, together
from services.gateway.rules import EVERY_LIST as LISTS
from services.gateway.rules import MAX_RULES, Active, RuleBook, Rules, parse
from services.gateway.settings import Settings
from winnow.catalogue import Catalogue
from winnow.errors import FailedPrecondition, PayloadTooLarge
from winnow.types import Context, Item

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
RED: dict[str, Any] = {"field": "brand", "op": "in", "values": ["red"]}
CHEAP: dict[str, Any] = {"field": "price", "op": "lt", "number": 5}
ODD: dict[str, Any] = {"field": "item_id", "op": "in", "values": [f"i{n}" for n in range(1, 10, 2)]}
EVEN: dict[str, Any] = {"not": ODD}
NOTHING: dict[str, Any] = {"field": "brand", "op": "in", "values": ["nobody"]}
ITEMS = [Item(f"i{n}", brand="red" if n % 2 else "blue", price=float(n)) for n in range(10)]


def rule(kind: str, name: str = "one", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "name": name, **more}


def rules_of(*rules: dict[str, Any]) -> Rules:
    return parse(json.dumps({"rules": rules}), "rules.json")


def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert(ITEMS)
    return made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (rule("boost", filter=RED), "boost.strength"),
        (rule("boost", filter=RED, strength=0), "strength"),
        (rule("boost", filter=RED, strength=float("nan")), "strength"),
        (rule("promote", filter=RED), "kind"),
        (rule("block"), "filter"),
        (rule("block", filter={"field": "price", "op": "in", "values": ["1"]}), "price takes lt, le, gt, ge"),
        (rule("block", filter={"field": "colour", "op": "in", "values": ["1"]}), "unknown field 'colour'"),
        (rule("pin", item_id="i1", place=0), "place"),
        (rule("pin", item_id="i1", place=51), "place"),
        (rule("pin", item_id="", place=1), "item_id"),
        (rule("quota", filter=RED), "at_least, at_most or both"),
        (rule("quota", filter=RED, at_least=6, at_most=5), "at_least must not be above at_most"),
        (rule("bury", filter=RED, surface="home"), "surface"),
        (rule("bury", filter=RED, name="Not A Name"), "name"),
        (rule("bury", filter=RED, lists=[]), "lists"),
        (rule("bury", filter=RED, starts_at="2026-05-01"), "starts_at"),
        (rule("block", filter=RED, countries=["DE"]), "similar and trending lists have no surface"),
        (rule("pin", item_id="i1", place=1, devices=["phone"], lists=["similar"]), 'say "lists": ["recommend"]'),
        (rule("bury", filter=RED, starts_at="2026-05-01T00:00:00Z", ends_at="2026-04-01T00:00:00Z"), "ends_at"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        rules_of(wrong)
    assert refused.value.detail.startswith("rules.json: rules.0")
    assert said in refused.value.detail


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rules": 3}', '{"rules": [], "more": 1}', "\xff"])
def test_what_is_no_file_of_rules_is_refused(content: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"^rules\.json: "):
        parse(content, "rules.json")


def test_too_many_rules_and_deep_filters_and_a_name_twice_are_refused() -> None:
    for levels, said in ((8, "nested at most 8 deep"), (100_000, "recursion limit")):
        tree = '{"not": ' * levels + json.dumps(RED) + "}" * levels
        with pytest.raises(FailedPrecondition, match=said):
            parse('{"rules": [{"kind": "bury", "name": "one", "filter": ' + tree + "}]}", "rules.json")
    many = [rule("bury", f"r{n}", filter=RED) for n in range(MAX_RULES + 1)]
    with pytest.raises(FailedPrecondition, match=r"rules: .*200"):
        rules_of(*many)
    with pytest.raises(FailedPrecondition, match="two rules are called one"):
        rules_of(rule("bury", filter=RED), rule("block", filter=RED))


def test_the_version_is_that_of_what_it_says() -> None:
    one, same, other = (
        rules_of(rule("block", filter=RED)),
        parse('{ "rules":[{"filter": ' + json.dumps(RED) + ', "name":"one","kind":"block"}] }', "x"),
        rules_of(rule("bury", filter=RED)),
    )
    assert one.version == same.version != other.version
    assert rules_of().version == ""


@pytest.mark.parametrize(
    ("more", "kind", "context", "counts"),
    [
        ({}, "recommend", Context(), True),
        ({}, "similar", Context(), False),
        ({"lists": ["similar", "trending"]}, "similar", Context(), True),
        ({"surfaces": ["home", "cart"]}, "recommend", Context("cart"), True),
        ({"surfaces": ["home", "cart"]}, "recommend", Context("search"), False),
        ({"surfaces": ["home"]}, "recommend", Context(), False),
        ({"devices": ["phone"]}, "recommend", Context(device="phone"), True),
        ({"devices": ["phone"]}, "recommend", Context(device="desk"), False),
        ({"countries": ["DE"]}, "recommend", Context(country="FR"), False),
        ({"starts_at": "2026-05-01T12:00:00Z"}, "recommend", Context(), True),
        ({"starts_at": "2026-05-01T12:00:01Z"}, "recommend", Context(), False),
        ({"ends_at": "2026-05-01T12:00:00Z"}, "recommend", Context(), False),
        ({"ends_at": "2026-05-01T14:00:01+02:00"}, "recommend", Context(), True),
    ],
)
def test_a_rule_counts_where_and_when_it_says(more: dict[str, Any], kind: str, context: Context, counts: bool) -> None:
    active = rules_of(rule("bury", filter=RED, **more)).active(kind, context, AT)
    assert bool(active.buries) == counts
    assert (active.version != "") == counts


def test_what_is_blocked_is_so_by_the_clock_whatever_moment_a_request_claims() -> None:
    later = {"starts_at": "2026-06-01T00:00:00Z"}
    rules = rules_of(rule("block", filter=RED, **later), rule("bury", "two", filter=RED, **later))
    claimed, now = AT, datetime(2026, 7, 1, tzinfo=UTC)
    active = rules.active("recommend", Context(at=claimed), claimed, now=now)
    assert (len(active.blocks), len(active.buries)) == (1, 0)
    assert rules.active("recommend", Context(at=now), now, now=claimed).blocks == ()


def wrapped(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(part, min_size=1, max_size=3)
    return st.one_of(
        part.map(lambda one: {"not": one}), some.map(lambda all_: {"all": all_}), some.map(lambda any_: {"any": any_})
    )


@given(st.recursive(st.sampled_from([RED, CHEAP, NOTHING]), wrapped, max_leaves=6))
def test_what_is_written_is_read_again_as_the_same(tree: dict[str, Any]) -> None:
    try:
        one = rules_of(
            rule("block", filter=tree), rule("pin", "two", item_id="i1", place=3, ends_at="2027-01-01T00:00:00Z")
        )
    except FailedPrecondition:
        assume(False)
    again = parse(json.dumps(one.content), "x")
    assert again.version == one.version
    assert again.active("similar", Context(), AT) == one.active("similar", Context(), AT)


def test_what_is_blocked_is_blocked_in_every_list_and_of_a_search_nothing_else_counts() -> None:
    rules = rules_of(rule("block", filter=RED), rule("pin", "two", item_id="i2", place=1))
    for kind in ("recommend", "similar", "trending"):
        assert len(rules.active(kind, Context(), AT).blocks) == 1
    searched = rules.active("recommend", Context(), AT, searched=True)
    assert searched == Active(rules.version, searched.blocks)
    assert len(searched.blocks) == 1


HERE = {"lists": ["recommend"]}
CLASHES = [
    (
        [rule("pin", item_id="i1", place=2), rule("pin", "two", item_id="i2", place=2)],
        "one and two pin two items to place 2",
    ),
    (
        [rule("pin", item_id="i1", place=2), rule("pin", "two", item_id="i1", place=3)],
        "one and two pin i1 to two places",
    ),
    (
        [rule("boost", filter=RED, strength=1), rule("bury", "two", filter=RED)],
        "one boosts what two buries: the same items",
    ),
    (
        [rule("boost", filter=RED, strength=1), rule("bury", "two", filter=CHEAP)],
        "one boosts what two buries: 2 items, i1 among them",
    ),
    ([rule("block", filter=RED), rule("pin", "two", item_id="i3", place=1)], "two pins i3, which one blocks"),
    (
        [rule("block", filter=RED), rule("quota", "two", filter=RED, at_least=1)],
        "two wants 1 of every 10 places for items that one blocks",
    ),
    (
        [rule("block", filter=RED), rule("boost", "two", filter=RED, strength=1)],
        "two boosts nothing but what one blocks",
    ),
    (
        [rule("bury", filter=RED), rule("quota", "two", filter=RED, at_least=1)],
        "two wants 1 of every 10 places for items that one buries",
    ),
    (
        [rule("quota", filter=RED, at_least=4), rule("quota", "two", filter=RED, at_most=3)],
        "one wants at least 4 of every 10 places, and two at most 3, for items that both match",
    ),
    (
        [rule("quota", filter=ODD, at_least=6), rule("quota", "two", filter=EVEN, at_least=5)],
        "one, two together want more than 10 of 10 places",
    ),
    (
        [
            rule("quota", filter=RED, at_most=1),
            rule("pin", "two", item_id="i1", place=9),
            rule("pin", "three", item_id="i3", place=10),
        ],
        "two, three pin more than the 1 that one allows in ten places",
    ),
    (
        [rule("quota", filter=RED, at_least=10), rule("pin", "two", item_id="i2", place=3)],
        "two leave less than the 10 places that one wants of ten",
    ),
    (
        [
            rule("block", filter=ODD),
            rule("block", "two", filter=EVEN),
            rule("quota", "three", filter=CHEAP, at_least=1),
        ],
        "three wants 1 of every 10 places for items that one and two block",
    ),
    ([rule("pin", item_id="nobody made this", place=1)], "one pins nobody made this, which is not in the catalogue"),
]


@pytest.mark.parametrize(("rules", "said"), CLASHES)
def test_rules_that_contradict_each_other_are_named_with_the_reason(rules: list[dict[str, Any]], said: str) -> None:
    assert said in conflicts(rules_of(*rules).file.rules, catalogue())


@pytest.mark.parametrize("rules", [rules for rules, _ in CLASHES if len(rules) > 1])
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"surfaces": ["home"]} | HERE, {"surfaces": ["cart"]} | HERE),
        ({"devices": ["phone"]} | HERE, {"devices": ["desk"]} | HERE),
        ({"countries": ["DE"]} | HERE, {"countries": ["FR", "GB"]} | HERE),
        ({"lists": ["recommend"]}, {"lists": ["similar", "trending"]}),
        ({"ends_at": "2026-05-01T00:00:00Z"}, {"starts_at": "2026-05-01T00:00:00Z"}),
    ],
)
def test_rules_that_never_count_together_do_not(
    rules: list[dict[str, Any]], here: dict[str, Any], there: dict[str, Any]
) -> None:
    first, *others = rules
    apart = rules_of(first | here, *(other | there for other in others))
    assert conflicts(apart.file.rules, catalogue()) == []
    swapped = rules_of(first | there, *(other | here for other in others))
    assert conflicts(swapped.file.rules, catalogue()) == []


def test_what_two_rules_each_say_at_another_time_is_not_added_up() -> None:
    summer, autumn = {"ends_at": "2026-07-01T00:00:00Z"}, {"starts_at": "2026-07-01T00:00:00Z"}
    blue = {"field": "brand", "op": "in", "values": ["blue"]}
    fine = rules_of(
        rule("quota", "always", filter=RED, at_least=6, at_most=7),
        rule("quota", "summer", filter=blue, at_least=4, **summer),
        rule("quota", "autumn", filter=blue, at_least=3, **autumn),
        rule("quota", "few", filter=CHEAP, at_most=1),
        rule("pin", "p", item_id="i1", place=1, **summer),
        rule("pin", "q", item_id="i3", place=2, **autumn),
    )
    assert conflicts(fine.file.rules, catalogue()) == []
    same = [
        rule("quota", "one", filter=RED, at_least=6),
        rule("quota", "two", filter={"any": [RED, CHEAP]}, at_least=6),
    ]
    assert conflicts(rules_of(*same).file.rules, catalogue()) == [], "six items are of both"


def test_many_rules_in_many_places_are_checked_in_time() -> None:
    countries = [f"C{n}" for n in range(60)]
    many = [
        rule("quota", f"q{n}", filter=RED, at_most=5, countries=countries[n % 60 :][:3], surfaces=[f"s{n % 40}"])
        for n in range(MAX_RULES)
    ]
    began = time.process_time()
    assert conflicts(rules_of(*many).file.rules, catalogue()) == []
    assert time.process_time() - began < 30


def test_rules_that_can_all_be_kept_are_fine() -> None:
    fine = rules_of(
        rule("block", "a", filter=NOTHING),
        rule("pin", "b", item_id="i1", place=1),
        rule("pin", "c", item_id="i2", place=2),
        rule("quota", "d", filter=RED, at_least=5),
        rule("quota", "e", filter=CHEAP, at_least=5),
        rule("boost", "f", filter=RED, strength=1),
        rule("bury", "g", filter={"field": "item_id", "op": "in", "values": ["i4"]}),
    )
    assert conflicts(fine.file.rules, catalogue()) == conflicts(fine.file.rules) == []


def test_without_a_catalogue_what_rules_say_of_themselves_is_still_compared() -> None:
    of_themselves = {said for rules, said in CLASHES if said in conflicts(rules_of(*rules).file.rules)}
    assert len(of_themselves) == 7
    assert not any("i1 among them" in said or "not in the catalogue" in said for said in of_themselves)


def taken(outcome: str) -> float:
    return REGISTRY.get_sample_value("winnow_rule_sets_total", {"outcome": outcome}) or 0.0


def write(file: Path, *rules: dict[str, Any]) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"rules": rules}))
    beside.replace(file)


def test_a_gateway_takes_up_what_is_published_and_keeps_what_it_had_where_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    book = RuleBook(file)
    assert book.rules.version == ""
    write(file, rule("block", filter=RED))
    before = taken("taken"), taken("refused")
    book.look()
    first = book.rules.version
    assert first
    write(file, rule("boost", filter=RED, strength=1), rule("bury", "two", filter=RED))
    book.look()
    file.write_text("{")
    book.look()
    assert book.rules.version == first
    assert (taken("taken"), taken("refused")) == (before[0] + 1, before[1] + 2)
    book.look()
    assert taken("refused") == before[1] + 2, "the same bad file is not read again"
    file.unlink()
    book.look()
    assert book.rules.version == first, "a file that is gone ends nothing; an empty set does"
    write(file)
    book.look()
    assert book.rules.version == ""


def test_a_gateway_does_not_start_without_the_rules_it_was_told_of(tmp_path: Path) -> None:
    """A shop may not sell what it blocks."""
    with pytest.raises(FailedPrecondition, match="No such file"):
        RuleBook(tmp_path / "rules.json", required=True)
    (tmp_path / "rules.json").write_text('{"rules": [{}]}')
    with pytest.raises(FailedPrecondition, match="kind"):
        RuleBook(tmp_path / "rules.json")
    (tmp_path / "rules.json").write_bytes(b" " * 2**21)
    with pytest.raises(PayloadTooLarge):
        RuleBook(tmp_path / "rules.json")


def test_where_the_rules_are() -> None:
    assert rules_file(Settings(home=Path("h"))) == Path("h/rules/rules.json")
    assert rules_file(Settings(home=Path("h"), rules_file="mounted/rules.json")) == Path("mounted/rules.json")


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=2)
MOMENTS = st.one_of(st.none(), st.integers(1, 4))


@st.composite
def somewhere(draw: st.DrawFn) -> dict[str, Any]:
    """Where and when a rule counts."""
    starts, ends = draw(MOMENTS), draw(MOMENTS)
    if starts is not None and ends is not None and starts >= ends:
        ends = None
    when = {"starts_at": starts, "ends_at": ends}
    where = {name: draw(WORDS) for name in ("surfaces", "devices", "countries")}
    lists = ["recommend"] if any(where.values()) else draw(st.sampled_from([["recommend"], ["similar"], [*LISTS]]))
    return {
        "lists": lists,
        **where,
        **{name: f"2026-05-0{day}T00:00:00Z" for name, day in when.items() if day is not None},
    }


@settings(max_examples=50)
@given(st.lists(somewhere(), max_size=5))
def test_rules_count_together_where_some_request_says_so(where: list[dict[str, Any]]) -> None:
    made = rules_of(*(rule("bury", f"r{n}", filter=RED, **more) for n, more in enumerate(where))).file.rules
    words = ["", "a", "b", "c"]
    moments = [datetime(2026, 5, day, tzinfo=UTC) for day in range(1, 6)] + [datetime(2026, 4, 1, tzinfo=UTC)]
    expected = {
        tuple(one.name for one in made if one.counts(kind, Context(*context), at))
        for kind in LISTS
        for context in product(words, words, words)
        for at in moments
    }
    assert {tuple(one.name for one in some) for some in together(made)} == expected
