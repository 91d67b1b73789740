"""Peers are asked, judged and, whatever they do, survived."""

import json
import math
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.peers.driver import Data
from bench.peers.faces import CoreRecFace
from bench.peers.question import Question, Verdict, judged, question
from bench.peers.roster import PINS, ROSTER, Peer
from bench.peers.table import markdown
from bench.peers.trial import Failed, Limits, Row, bounded, one_line, result_of, trial
from training.data.generated import World, generate
from training.ingest import ingest

WORLD = World(items=80, people=30, events=600, seed=3)
QUICK = Limits(answer_s=30.0)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Question:
    return question(generate(WORLD), tmp_path_factory.mktemp("question"), people=12)


def tried(asked: Question, root: Path, model: str, limits: Limits = QUICK) -> Row:
    return trial(Peer("fake", model, "", adapter="tests.fake_peers"), asked, root, limits)


def test_the_last_act_of_everyone_is_held_out_and_nobody_who_is_asked_can_read_it(
    asked: Question, tmp_path: Path
) -> None:
    whole = ingest("generated:80,30,600,3", tmp_path / "whole")
    known = ingest(str(asked.folder), tmp_path / "known")
    events = sum(frame.height for frame in generate(WORLD).events())
    often = sum(1 for n in np.bincount(all_users()) if n >= 3)
    assert whole.events == events
    assert known.events == len(asked.data.items) == events - often
    assert set(np.load(asked.folder / "data.npz").files) == {"items", "starts", "n_items", "asked"}
    for user, answer in zip(asked.data.asked, asked.answers, strict=True):
        mine = acts_of(asked.user_ids[user])
        assert [asked.item_ids[row] for row in [*asked.data.of(int(user)), answer]] == mine


def all_users() -> list[int]:
    return [int(user[1:]) for frame in generate(WORLD).events() for user in frame["user_id"]]


def acts_of(user_id: str) -> list[str]:
    frames = list(generate(WORLD).events())
    return [i for frame in frames for u, i in frame.select("user_id", "item_id").iter_rows() if u == user_id]


def test_a_peer_that_answers_has_figures_and_the_quality_of_its_answers(asked: Question, tmp_path: Path) -> None:
    row = tried(asked, tmp_path, "right")
    assert row.fault == ""
    gains = []
    for user, answer in zip(asked.data.asked, asked.answers, strict=True):
        unseen = [n for n in range(asked.data.n_items) if n not in asked.data.of(int(user))][:10]
        gains.append(1 / math.log2(unseen.index(answer) + 2) if answer in unseen else 0.0)
    assert row.figures["ndcg_at_10"] == pytest.approx(np.mean(gains))
    assert row.figures["ndcg_error"] == pytest.approx(np.std(gains, ddof=1) / math.sqrt(len(gains)))
    assert row.figures["one_p99_ms"] >= row.figures["one_p50_ms"] > 0
    assert row.figures["rss_mb"] > 10


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        ("fails", "solver"),
        ("dies", "ended with -6"),
        ("twice", "12 of 12 answers: an item twice"),
        ("seen", "12 of 12 answers: an item that the person has seen"),
        ("short", "12 of 12 answers: not ten items of the catalogue"),
        ("absent", "KeyError: 'absent'"),
    ],
)
def test_a_peer_that_fails_is_a_row_with_one_line(asked: Question, tmp_path: Path, model: str, fault: str) -> None:
    row = tried(asked, tmp_path, model)
    assert (row.fault, dict(row.figures)) == (fault, {})


def test_a_peer_that_hangs_is_ended_with_all_that_it_started(asked: Question, tmp_path: Path) -> None:
    row = tried(asked, tmp_path, "hangs", Limits(answer_s=3.0))
    assert row.fault == "no result within 3 s"
    child = int((tmp_path / "answers" / "fake-hangs" / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_peer_whose_environment_cannot_be_made_says_why(tmp_path: Path, asked: Question) -> None:
    row = trial(Peer("absent", "als", "1.0", pins="absent"), asked, tmp_path, QUICK)
    assert "absent.lock" in row.fault


def test_implicit_itself_is_asked_and_judged(asked: Question, tmp_path: Path) -> None:
    row = trial(Peer("implicit", "als", "0.7.3"), asked, tmp_path, QUICK)
    assert row.fault == ""
    assert row.figures["ndcg_at_10"] > 0


@pytest.mark.parametrize(
    "answers",
    [np.zeros((3, 10), np.int64), np.zeros((12, 10), np.float64), np.zeros((12, 9), np.int64), np.array("x")],
)
def test_answers_of_another_shape_are_no_answers(asked: Question, answers: np.ndarray) -> None:  # type: ignore[type-arg]
    assert judged(asked, answers).fault.startswith("answers are")


def test_a_row_beyond_the_catalogue_is_no_item(tmp_path: Path) -> None:
    data = Data(np.array([0, 1]), np.array([0, 2]), 30, np.array([0]))
    one = Question(data, np.array([5]), ("u",), tuple(map(str, range(30))), tmp_path)
    assert judged(one, np.arange(21, 31)[None]).fault == "1 of 1 answers: not ten items of the catalogue"
    assert judged(one, np.arange(2, 12)[None]) == Verdict("", pytest.approx(1 / math.log2(5)), 0.0)


@pytest.mark.parametrize(
    "told",
    ["[]", "{}", '{"one_ms": [1]}', "nothing", '{"one_ms": ["x"], "fit_s": 1, "fit_cpu_s": 1, "one_cpu_ms": 1, "batch_cpu_ms": 1, "rss_mb": 1}',
     '{"one_ms": [NaN], "fit_s": 1, "fit_cpu_s": 1, "one_cpu_ms": 1, "batch_cpu_ms": 1, "rss_mb": 1}'],
)  # fmt: skip
def test_a_result_that_makes_no_sense_is_a_failure(tmp_path: Path, told: str) -> None:
    np.save(tmp_path / "answers.npy", np.zeros((1, 10), np.int64))
    (tmp_path / "result.json").write_text(told)
    with pytest.raises(Failed, match=r"no result|no number"):
        result_of(tmp_path)


def test_nothing_of_a_peer_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "answers.npy", np.array([object()], dtype=object), allow_pickle=True)
    (tmp_path / "result.json").write_text(json.dumps({"one_ms": [1.0]}))
    with pytest.raises(Failed, match="ValueError"):
        result_of(tmp_path)


def test_a_command_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="No such file"):
        bounded([str(tmp_path / "nothing")], tmp_path / "log", 1.0)


def test_an_error_is_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("long " * 100)) <= 160


def test_every_peer_of_the_roster_has_its_pins_with_hashes() -> None:
    for peer in ROSTER:
        if peer.pins:
            lock = (PINS / f"{peer.pins}.lock").read_text()
            assert f"=={peer.version}" in lock
            assert all("--hash=sha256:" in entry for entry in lock.replace("\\\n", " ").splitlines() if "==" in entry)
    assert len({peer.key for peer in ROSTER}) == len(ROSTER)


def test_the_table_says_what_failed_and_keeps_its_columns() -> None:
    rows = [
        Row("a", "A", {"ndcg_at_10": 0.5, "ndcg_error": 0.01, "one_p50_ms": 1.25}),
        Row("b", "B", fault="no | wheel"),
    ]
    about = {"data": "d", "people": 3, "cpu": "c", "cores": 2, "date": "2026-01-01", "rate": 20.0}
    lines = [line for line in markdown(rows, [], about).splitlines() if line.startswith("|")]
    assert "| A | 0.5000 ± 0.0100 | 1.25 |" in lines[2]
    assert "failed: no / wheel" in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_corerecs_server_is_asked_in_its_own_words() -> None:
    face = CoreRecFace("127.0.0.1", 1, items=2, limit=1)
    assert b"POST /recommend HTTP/1.1" in face._request("7")
    assert face._request("7").endswith(b'{"user_id":7,"top_k":2}')
    assert face._read(b'{"user_id": 7, "recommendations": [4, 5], "top_k": 2}').fault == ""
    assert face._read(b'{"user_id": 7, "recommendations": [4, 4], "top_k": 2}').fault == "an item twice"
