"""What was served is what the log says, to the last bit; and where it is not, the job says what and where."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.compare import pairs
from jobs.known import known_in
from jobs.skew import SKEWED, DecisionFile, main, skew
from tests.events import click, features
from tests.homes import copy_of, event_lists, small_home
from tests.replays import FAULTS, Faults, Shop, bundle_for, events, replay
from winnow.artifacts import Bundle
from winnow.decisions import SIMILAR, Decision
from winnow.decisions import to_json as decision_line
from winnow.errors import FailedPrecondition, NotFound
from winnow.features import RANKER_USER
from winnow.requests import Watermarks
from winnow.served import Served, of_json, to_json
from winnow.types import Candidates, Context, Event, Person, strings

EVENTS = events(400, seed=3)
EVERYONE = [*(Person(user_id=u) for u in ("u1", "u2", "new")), *(Person(session_id=s) for s in ("s1", "s2", "s3"))]


@pytest.fixture(scope="module")
def empty_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_home(tmp_path_factory.mktemp("shop") / "home")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_for(tmp_path_factory.mktemp("bundle") / "ranking")


def replayed(shop: Path, into: Path, bundle: Bundle, faults: Faults) -> Path:
    """A home with its decisions."""
    home = copy_of(shop, into)
    one = Shop(home, bundle, faults)
    asyncio.run(replay(one, EVENTS, seed=4))
    (home / "decisions").mkdir()
    for part in (0, 1):
        half = one.kept.lines[part * 100 :][: 100 if part == 0 else None]
        (home / "decisions" / f"{part}.jsonl").write_bytes(b"".join(line + b"\n" for line in half))
    return home


@pytest.fixture(scope="module")
def right(empty_shop: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replayed(empty_shop, tmp_path_factory.mktemp("right") / "home", bundle, Faults())


def lines(home: Path) -> list[bytes]:
    return [line for file in sorted((home / "decisions").glob("*.jsonl")) for line in file.read_bytes().splitlines()]


def test_a_replay_is_equal_to_the_last_bit(right: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = [of_json(line) for line in lines(right)]
    assert len(served) > 200
    assert sum(len(one.user.history) > 5 for one in served) > 100
    assert any(one.user.person.user_id and one.user.person.session_id for one in served)
    assert any(
        one.occurred_at < before.occurred_at for before, one in pairwise(EVENTS)
    )  # some were on their way for long
    assert all(one.ranked and one.vector is not None for one in served)
    assert {*served[0].vector.texts, *served[0].vector.numbers} == set(RANKER_USER)  # type: ignore[union-attr]
    assert any(one.vector and one.vector.catalogue != one.catalogue for one in served)  # the gateway's is older
    assert main(["--home", str(right)]) == 0
    assert f"{len(served)} of {len(served)} answers equal (100.0000%), {len(served)} with" in capsys.readouterr().out


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_caught_and_named(
    name: str, empty_shop: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS[name]
    home = replayed(empty_shop, tmp_path / "home", bundle, fault.faults)
    assert main(["--home", str(home), "--first", "7"]) == SKEWED
    told = capsys.readouterr().out.splitlines()
    differing = {line.rpartition(" differ in ")[2] for line in told if " differ in " in line}
    assert differing == fault.named if fault.alone else differing >= fault.named
    assert sum(": served " in line for line in told) == 7


def test_the_first_difference_names_the_answer_the_place_and_both_values(right: Path) -> None:
    served = next(one for one in map(of_json, lines(right)) if len(one.user.history) > 3)
    values = served.user.history.values.copy()
    values[2] = np.float32(0.25)
    wrong = replace(served, user=replace(served.user, history=replace(served.user.history, values=values)))
    report = skew([to_json(wrong)], known_in(right))
    assert (report.compared, report.equal) == (1, 0)
    [one] = report.first
    assert (one.request_id, one.at, one.name) == (served.request_id, served.at, "history.values[2]")
    assert one.served == "0.25 (3e800000)"
    assert one.recomputed != one.served


def test_the_bits_count_where_the_values_are_equal(right: Path) -> None:
    served = next(one for one in map(of_json, lines(right)) if one.vector and 0.0 in one.vector.numbers.values())
    assert served.vector is not None
    name = next(name for name, number in served.vector.numbers.items() if number == 0.0)
    vector = replace(served.vector, numbers={**served.vector.numbers, name: -0.0})
    [one] = skew([to_json(replace(served, vector=vector))], known_in(right)).first
    assert (one.name, one.served) == (f"{name}", "-0.0 (8000000000000000)")


def test_a_feature_that_this_release_does_not_know_is_a_difference(right: Path) -> None:
    served = of_json(lines(right)[0])
    assert served.vector is not None
    vector = replace(served.vector, numbers={**served.vector.numbers, "user_shoe_size": 44.0})
    assert [one.name for one in skew([to_json(replace(served, vector=vector))], known_in(right)).first] == [
        "user_shoe_size"
    ]


def test_an_answer_beyond_the_end_of_the_logs_is_a_difference(right: Path) -> None:
    known, served = known_in(right), of_json(lines(right)[0])
    ahead = replace(served, user=replace(served.user, watermark=known.events + 1), catalogue=known.items + 1)
    found = {name: other for name, _, other in pairs(ahead, known)}
    assert found["watermark"] == f"the log of events ends at {known.events}"
    assert found["catalogue"] == f"the log of items ends at {known.items}"


def decision_of(served: Served, **more: object) -> bytes:
    nothing = Candidates(strings([]), np.empty(0, np.uint32), np.empty((0, 1), np.float32), ("popular",))
    fields = {
        "kind": served.kind,
        "candidates": nothing,
        "predictions": None,
        "rows": np.empty(0, np.int64),
        "propensities": np.empty(0, np.float32),
        "offset": 0,
        "variant": "default",
        "skipped": (),
        "watermarks": Watermarks(served.user.watermark, served.user.watermark, served.catalogue),
        **more,
    }
    return decision_line(Decision(served.request_id, served.at, user=served.user, context=served.context, **fields))  # type: ignore[arg-type]


def test_lines_of_the_decision_log_are_compared_by_their_state(right: Path) -> None:
    every = [of_json(line) for line in lines(right)]
    report = skew([decision_of(one) for one in every], known_in(right))
    assert (report.compared, report.equal, report.vectors) == (len(every), len(every), 0)
    mixed = [replace(one, user=replace(other.user, person=one.user.person)) for one, other in pairwise(every)]
    assert skew([decision_of(one) for one in mixed], known_in(right)).equal < len(mixed) / 2


def test_a_ranked_answer_without_its_vector_is_told(right: Path) -> None:
    body = orjson.loads(lines(right)[0])
    del body["features"]
    report = skew([orjson.dumps(body), lines(right)[1]], known_in(right))
    assert (report.equal, report.ranked, report.vectors) == (2, 2, 1)
    assert "1 ranked answers without their vector: only their state was compared" in list(report.lines())


def test_the_vector_counts_at_the_position_that_whoever_ranked_names(right: Path) -> None:
    ahead = [one for one in map(of_json, lines(right)) if one.vector and one.vector.catalogue != one.catalogue]
    unsaid = [replace(one, vector=replace(one.vector, catalogue=None)) for one in ahead]  # type: ignore[type-var]
    known = known_in(right)
    assert [list(pairs(one, known)) for one in ahead] == [[] for _ in ahead]
    assert any(list(pairs(one, known)) for one in unsaid)


def test_answers_without_a_state_are_told_apart(right: Path) -> None:
    served = of_json(lines(right)[0])
    nobody = replace(served, user=replace(served.user, watermark=0))
    told = [decision_of(served, skipped=("feature",)), decision_of(nobody, kind=SIMILAR), decision_of(served)]
    report = skew(told, known_in(right))
    assert (report.without, report.compared, report.fine) == (2, 1, True)


def test_a_decision_that_was_delivered_twice_counts_once(right: Path) -> None:
    one, other = lines(right)[:2]
    report = skew([one, other, one, one], known_in(right))
    assert (report.compared, report.equal, report.vectors, report.repeated, report.fine) == (2, 2, 2, 2, True)
    assert "2 lines repeat a decision, which was compared once" in list(report.lines())
    stateless = decision_of(of_json(one), skipped=("feature",))
    report = skew([stateless, stateless], known_in(right))
    assert (report.without, report.repeated) == (1, 1)


def test_another_line_of_the_same_request_is_compared_too(right: Path) -> None:
    """The one that differs must not hide behind one that is right."""
    served = of_json(lines(right)[0])
    assert served.vector is not None
    wrong = replace(served.vector, numbers={**served.vector.numbers, "user_log_events": 0.125})
    report = skew([lines(right)[0], to_json(replace(served, vector=wrong))], known_in(right))
    assert (report.compared, report.equal, report.repeated) == (2, 1, 0)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (lambda body: b"{rubbish", "not-json"),
        (lambda body: orjson.dumps({**body, "schema": 99}), "newer-schema"),
        (lambda body: orjson.dumps({**body, "user": None}), "invalid"),
        (lambda body: orjson.dumps({**body, "features": {"texts": {}, "names": ["x"], "numbers": []}}), "invalid"),
        (lambda body: orjson.dumps({**body, "watermarks": {"catalogue": "1"}}), "invalid"),
    ],
)
def test_a_line_that_cannot_be_read_fails_the_check(right: Path, spoilt, reason: str) -> None:  # type: ignore[no-untyped-def]
    report = skew([lines(right)[0], spoilt(orjson.loads(lines(right)[1]))], known_in(right))
    assert (report.equal, dict(report.unreadable), report.fine) == (1, {reason: 1}, False)


def test_a_file_is_read_as_it_was_when_it_was_found_and_without_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "0.jsonl"
    path.write_bytes(b"one\ntwo\nthr")
    found = DecisionFile(path, path.stat().st_size)
    path.write_bytes(b"one\ntwo\nthree\nfour\n")
    assert list(found.lines()) == [b"one", b"two", b"three"]  # the line that had begun is whole by now
    assert list(DecisionFile(path, 8).lines()) == [b"one", b"two"]
    path.write_bytes(b"one\ntw")
    assert list(DecisionFile(path, 6).lines()) == [b"one"]


def test_a_check_that_looks_at_nothing_does_not_pass(right: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no decision log"):
        main(["--home", str(right), "--decisions", str(tmp_path)])
    (tmp_path / "0.jsonl").write_bytes(decision_of(of_json(lines(right)[0]), skipped=("feature",)) + b"\n")
    with pytest.raises(FailedPrecondition, match="no answer to compare; 1 had no state"):
        main(["--home", str(right), "--decisions", str(tmp_path)])


def test_the_program_ends_with_what_it_found(right: Path, tmp_path: Path) -> None:
    def ends(*words: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "jobs.skew", *words], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    status, told = ends("--home", str(right), "--decisions", str(tmp_path))
    assert (status, told) == (1, f"error: {tmp_path}: no decision log (*.jsonl)\n")
    assert ends("--home", str(right), "--first", "1")[0] == 0


def test_a_session_counts_for_its_user_from_the_position_that_says_so(empty_shop: Path, tmp_path: Path) -> None:
    home = copy_of(empty_shop, tmp_path / "home")
    log = [
        click("a", "i1", user_id="", session_id="s1"),
        click("b", "i2", user_id="new"),
        click("c", "i3", user_id="new", session_id="s1"),
        click("d", "i4", user_id="", session_id="s1"),
    ]
    served = asyncio.run(watched(home, log, cut=1))
    own = [one.user.events for one in served if one.user.person == Person("new")]
    assert own == [0, 1, 3, 4]
    assert [list(pairs(one, known_in(home))) for one in served] == [[] for _ in served]


@settings(max_examples=25)
@given(log=event_lists(in_order=False), cut=st.integers(1, 7))
def test_at_every_position_the_logs_say_what_the_running_service_said(
    tmp_path_factory: pytest.TempPathFactory, empty_shop: Path, log: list[Event], cut: int
) -> None:
    home = copy_of(empty_shop, tmp_path_factory.mktemp("any") / "home")
    served = asyncio.run(watched(home, log, cut))
    known = known_in(home)
    assert [list(pairs(one, known)) for one in served] == [[] for _ in served]


async def watched(home: Path, log: list[Event], cut: int) -> list[Served]:
    """Everybody's state after each call."""
    service, found = features(home), []
    for start in range(0, len(log), cut):
        await service.record(log[start : start + cut])
        states = await service.users(EVERYONE)
        found += [Served("r", log[0].occurred_at, state, Context(), 0) for state in states]
    await service.close()
    return found
