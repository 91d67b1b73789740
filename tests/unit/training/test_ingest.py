"""Ingesting twice does nothing twice, and stopping half-way leaves the home as it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cli.ingest import described
from cli.main import app
from tests.events import click, features
from tests.homes import SMALL, small_home
from training.data import open_source
from training.data.generated import generate
from training.dataset import load
from training.ingest import ingest, ingest_source, summary_of
from winnow.errors import FailedPrecondition, NotFound


def files(home: Path) -> dict[str, bytes]:
    return {str(f.relative_to(home)): f.read_bytes() for f in sorted(home.rglob("*")) if f.is_file()}


def test_a_second_run_skips(tmp_path: Path) -> None:
    first = ingest_source(generate(SMALL), tmp_path)
    before = files(tmp_path)
    second = ingest_source(generate(SMALL), tmp_path)
    assert not first.skipped
    assert second == replace(first, skipped=True)
    assert files(tmp_path) == before


def test_another_data_set_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    home, other = tmp_path / "home", generate(replace(SMALL, seed=6))
    ingest_source(generate(SMALL), home)
    before = files(home)
    with pytest.raises(FailedPrecondition) as refused:
        ingest_source(other, home)
    assert f"holds the data set {generate(SMALL).name}, not {other.name}" in refused.value.detail
    assert "another --home" in refused.value.detail
    assert "--replace" in refused.value.detail
    assert files(home) == before
    ingest_source(other, home, replace=True)
    ingest_source(other, tmp_path / "fresh")
    assert load(home).snapshot == load(tmp_path / "fresh").snapshot


def shop(folder: Path, *items: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"u,{item},{n + 1}" for n, item in enumerate(items)]
    (folder / "events.csv").write_text("\n".join(["user_id,item_id,occurred_at", *rows, ""]), encoding="utf-8")
    return folder


def test_a_folder_whose_files_grew_is_read_again_and_one_of_the_same_name_is_not(tmp_path: Path) -> None:
    home, mine = tmp_path / "home", tmp_path / "mine" / "shop"
    ingest(str(shop(mine, "a", "b")), home)
    assert ingest(str(shop(mine, "a", "b", "c")), home).events == 3
    theirs = shop(tmp_path / "theirs" / "shop", "d")
    with pytest.raises(FailedPrecondition, match=rf"holds the data set shop from {mine}, not shop from {theirs};"):
        ingest(str(theirs), home)


def test_a_home_that_does_not_say_where_it_came_from_is_known_by_its_name(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ingest(str(shop(tmp_path / "shop", "a")), home)
    told = json.loads((home / "dataset.json").read_text(encoding="utf-8"))
    del told["origin"]
    (home / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    assert ingest(str(shop(tmp_path / "shop", "a", "b")), home).events == 2


def test_an_interrupted_run_leaves_the_home_as_it_was(tmp_path: Path) -> None:
    def stopped() -> Iterator[pl.DataFrame]:
        yield from generate(SMALL).items()
        raise KeyboardInterrupt

    small_home(tmp_path)
    before = files(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ingest_source(replace(generate(SMALL), digest="other", items=stopped), tmp_path)
    assert files(tmp_path) == before


def test_live_events_are_never_renumbered(tmp_path: Path) -> None:
    async def live() -> None:
        service = features(tmp_path)
        await service.record([click("live")])
        await service.close()

    small_home(tmp_path)
    asyncio.run(live())
    with pytest.raises(FailedPrecondition, match="live events"):
        ingest_source(generate(replace(SMALL, seed=6)), tmp_path)
    assert ingest_source(generate(SMALL), tmp_path).skipped


def test_a_home_that_is_being_served_is_left_alone(tmp_path: Path) -> None:
    service = features(tmp_path)
    with pytest.raises(FailedPrecondition, match="another process"):
        small_home(tmp_path)
    asyncio.run(service.close())
    assert not (tmp_path / "dataset.json").exists()


def test_a_second_ingestion_at_the_same_time_leaves_the_first_alone(tmp_path: Path) -> None:
    def meanwhile() -> Iterator[pl.DataFrame]:
        with pytest.raises(FailedPrecondition, match="is in use"):
            ingest_source(generate(replace(SMALL, seed=6)), tmp_path)
        yield from generate(SMALL).items()

    summary = ingest_source(replace(generate(SMALL), items=meanwhile), tmp_path)
    assert summary_of(tmp_path) == replace(summary, skipped=True)
    assert not (tmp_path / ".ingest").exists()


def test_of_an_item_id_that_comes_twice_the_last_row_counts(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,occurred_at\nu,a,1\nu,b,2\n", encoding="utf-8")
    (tmp_path / "items.csv").write_text("item_id,title\na,first\nb,B\na,last\n", encoding="utf-8")
    summary = ingest(str(tmp_path), tmp_path / "home")
    assert (summary.items, summary.repeated_items) == (2, 1)
    assert "last row" in described(summary)["repeated item ids"]
    assert {item.item_id: item.title for item in load(tmp_path / "home").items} == {"a": "last", "b": "B"}


@pytest.mark.parametrize(("bad", "told"), [(1, False), (2, True)])
def test_a_table_that_lost_a_fifth_of_its_rows_says_why_most_often_and_where_to_look(
    bad: int, told: bool, tmp_path: Path
) -> None:
    rows = [f"u,i{n},{n + 1},{'view' if n < bad else 'click'}\n" for n in range(9)]
    text = "".join(["user_id,item_id,occurred_at,type\n", *rows, "u,i,never,view\n" if told else ""])
    (tmp_path / "events.csv").write_text(text, encoding="utf-8")
    words = ["ingest", "--data", str(tmp_path), "--home", str(tmp_path / "home")]
    said = CliRunner().invoke(app, words).stderr
    assert ("warning: " in said) == told
    if told:
        assert "3 of 10 rows of events were rejected; most often (2): type 'view' is unknown; known are" in said
        assert f"; {tmp_path / 'home' / 'rejects' / 'events.jsonl'} names each" in said


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    ingest_source(generate(SMALL), tmp_path, lambda table, rows: told.append((table, rows)))
    assert told == [("events", 400), ("users", 12), ("items", 60)]


def test_an_absent_set_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.source.ROOT", tmp_path)
    monkeypatch.setenv("WINNOW_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NotFound, match="set WINNOW_DATA to the folder around it"):
        ingest("online-retail", tmp_path / "home")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "events", "items", "users"),
    [
        ("ml-100k", 100_000, 1_682, 943),
        ("ml-1m", 999_611, 3_416, 6_040),
        ("goodbooks", 298_176, 10_000, 0),
        ("online-retail", 788_187, 5_242, 5_942),
    ],
)
def test_a_real_set_is_read_whole(name: str, events: int, items: int, users: int, tmp_path: Path) -> None:
    try:
        source = open_source(name)
    except NotFound as absent:
        pytest.skip(absent.detail)
    summary = ingest_source(source, tmp_path)
    assert (summary.events, summary.items, summary.users) == (events, items, users)
    assert set(summary.rejected.values()) == {0}
    assert summary.seconds < 30
