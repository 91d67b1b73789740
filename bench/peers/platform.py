"""Winnow in the comparison: its whole request path, five sources and the ranker, behind REST in one process.

It is made as a reader would make it, by the commands of `winnow`, from the folder that holds what the peers may know: so
what was held out is unknown to its log, its features and its models. The home is kept for the next run.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from bench.load import Load
from bench.measure import measure
from bench.peers.driver import WANTED, Ints
from bench.peers.question import Question, judged
from bench.peers.trial import Failed, Limits, Row, bounded, http_figures, one_line
from bench.processes import NotReady, Platform, running
from parts.program import HOST

KEY, TITLE = "winnow-platform", "Winnow, five sources and the ranker"
MADE = "made.json"
TRAIN_S = 3_000.0
ASK_S = 5.0

Say = Callable[[str], None]


def platform_row(asked: Question, root: Path, preset: str, limits: Limits, say: Say) -> Row:
    """The platform's row: how good what it serves is, and what it costs to serve it."""
    home = root / f"home-{fingerprint(asked)}-{preset}"
    try:
        figures = made(asked, home, preset, say)
        with running(home, "one_process", home / "logs") as platform:
            figures |= served(asked, platform, limits)
    except (Failed, NotReady) as failed:
        return Row(KEY, TITLE, fault=one_line(str(failed)))
    return Row(KEY, TITLE, figures)


def fingerprint(asked: Question) -> str:
    """8 hex digits of what may be known."""
    whole = hashlib.sha256(asked.data.items.tobytes() + asked.data.starts.tobytes())
    return whole.hexdigest()[:8]


def made(asked: Question, home: Path, preset: str, say: Say) -> dict[str, float]:
    """Ingested and trained, unless it was; `fit_s` is the time of all three commands."""
    note = home / MADE
    if note.is_file():
        return dict(json.loads(note.read_text(encoding="utf-8")))
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for what, command in (
        ("ingest", ("ingest", "--data", str(asked.folder))),
        ("retrieval", ("train", "retrieval", "--preset", preset, "--promote")),
        ("ranking", ("train", "ranking", "--preset", preset, "--promote")),
    ):
        say(f"Winnow: {what}, once; preset {preset}")
        bounded([sys.executable, "-m", "cli", *command, "--home", str(home)], home / f"{what}.log", TRAIN_S)
    figures = {"fit_s": time.monotonic() - began}
    note.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def served(asked: Question, platform: Platform, limits: Limits) -> dict[str, float]:
    """Everybody's answer, one after the other; then a steady load as every server here gets it."""
    verdict = judged(asked, answers(asked, platform.rest))
    if verdict.fault:
        raise Failed(verdict.fault)
    people = tuple(asked.user_ids[user] for user in asked.data.asked)
    load = Load("rest", HOST, platform.rest, limits.rate, limits.window_s, people)
    figures = http_figures(measure(load, platform.all))
    rss_mb = sum(platform.rss_mb().values())
    return figures | {"ndcg_at_10": verdict.ndcg, "ndcg_error": verdict.error, "rss_mb": rss_mb}


def answers(asked: Question, port: int) -> Ints:
    """(q, 10) item rows; -1 where an answer was shorter."""
    row_of = {item_id: row for row, item_id in enumerate(asked.item_ids)}
    found = np.full((len(asked.data.asked), WANTED), -1, np.int64)
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=ASK_S, trust_env=False) as client:
        for n, user in enumerate(asked.data.asked):
            question = {"user_id": asked.user_ids[user], "n": WANTED}
            try:
                answer = client.post("/v1/recommendations", json=question)
            except httpx.TransportError as broken:
                raise Failed(f"no answer: {type(broken).__name__}") from broken
            if answer.status_code != 200:
                raise Failed(f"status {answer.status_code}: {answer.text}")
            rows = [row_of[item["item_id"]] for item in answer.json()["items"]]
            found[n, : len(rows)] = rows
    return found
