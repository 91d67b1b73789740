"""Following the champion: what is good is switched to, what is not is refused once and the old one stays."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from winnow.artifacts import Bundle, Kind, seal
from winnow.errors import BundleRefused, NotFound, Unavailable
from winnow.registry import Version
from winnow.serving import bundles
from winnow.serving.bundles import BundleFollower, follow_bundle
from winnow.serving.telemetry import BUNDLE, BUNDLES_REFUSED


@dataclass
class Shelf:
    """A registry of ten lines."""

    path: Path
    alias: Version | None = None
    away: bool = False
    fetched: list[str] = field(default_factory=list)

    def champion(self, kind: Kind) -> Version | None:
        if self.away:
            raise Unavailable("nobody answers")
        return self.alias

    def fetch(self, version: Version) -> Path:
        self.fetched.append(version.number)
        if not (self.path / version.number).exists():
            raise NotFound("its files are gone")
        return self.path / version.number

    def put(self, number: str, content: str, kind: Kind = "ranking") -> Version:
        folder = self.path / number
        folder.mkdir()
        (folder / "content").write_text(content)
        return Version("ranking", number, seal(folder, kind, facts={}, metrics={}, data={}).id)

    register = promote = versions = None  # type: ignore[assignment]


@dataclass
class Server:
    serving: list[str] = field(default_factory=list)

    def load(self, bundle: Bundle) -> str:
        content = bundle.file("content").read_text()
        if content == "bad":
            raise BundleRefused("its samples differ")
        return content

    def use(self, model: str) -> None:
        self.serving.append(model)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def follower(shelf: Shelf, server: Server) -> BundleFollower[str]:
    return BundleFollower(shelf, "ranking", server.load, server.use)  # type: ignore[arg-type]


def refusals() -> float:
    return BUNDLES_REFUSED.labels(kind="ranking")._value.get()


async def test_the_champion_is_served_and_looked_at_once(
    shelf: Shelf, server: Server, follower: BundleFollower[str]
) -> None:
    assert not await follower.look()
    shelf.alias = shelf.put("1", "one")
    assert await follower.look()
    assert not await follower.look()
    assert server.serving == ["one"]
    assert shelf.fetched == ["1"]


async def test_moving_the_alias_deploys_and_moving_it_back_rolls_back(
    shelf: Shelf, server: Server, follower: BundleFollower[str]
) -> None:
    one, two = shelf.put("1", "one"), shelf.put("2", "two")
    for shelf.alias in (one, two, one):
        await follower.look()
    assert server.serving == ["one", "two", "one"]
    shown = [s.labels for m in BUNDLE.collect() for s in m.samples if s.labels["kind"] == "ranking" and s.value]
    assert shown == [{"kind": "ranking", "version": "1", "bundle": one.bundle}]


@pytest.mark.parametrize("how", ["its content", "its hash", "its kind", "its id"])
async def test_a_refused_bundle_leaves_the_old_one_and_is_not_tried_again_and_again(
    shelf: Shelf, server: Server, follower: BundleFollower[str], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.alias = shelf.put("1", "one")
    await follower.look()
    refused_before = refusals()
    shelf.alias = shelf.put(
        "2", "bad" if how == "its content" else "two", "retrieval" if how == "its kind" else "ranking"
    )
    if how == "its hash":
        (shelf.path / "2" / "content").write_text("six")
    if how == "its id":
        shelf.alias = Version("ranking", "2", "0123456789abcdef")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert not await follower.look()
    assert server.serving == ["one"]
    assert shelf.fetched == ["1", "2"]
    assert refusals() == refused_before + 1
    assert len(caplog.records) == 1
    assert "refused" in caplog.text
    assert "keeps serving" in caplog.text


async def test_after_a_refusal_the_next_version_is_served(
    shelf: Shelf, server: Server, follower: BundleFollower[str]
) -> None:
    shelf.alias = shelf.put("1", "bad")
    await follower.look()
    shelf.alias = shelf.put("2", "two")
    assert await follower.look()
    assert server.serving == ["two"]


async def test_what_could_not_be_fetched_is_tried_again_later(
    shelf: Shelf, server: Server, follower: BundleFollower[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = refusals()
    shelf.alias = Version("ranking", "1")
    assert not await follower.look()
    shelf.put("1", "one")
    assert not await follower.look()
    monkeypatch.setattr(bundles.time, "monotonic", lambda: 1e12)
    assert await follower.look()
    assert server.serving == ["one"]
    assert refusals() == before


async def test_a_registry_that_is_away_costs_only_the_update_and_one_line(
    shelf: Shelf, server: Server, follower: BundleFollower[str], caplog: pytest.LogCaptureFixture
) -> None:
    shelf.alias, shelf.away = shelf.put("1", "one"), True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not await follower.look()
    assert len(caplog.records) == 1
    shelf.away = False
    assert await follower.look()


async def test_a_bug_in_loading_is_not_survived(shelf: Shelf, server: Server) -> None:
    shelf.alias = shelf.put("1", "one")

    def broken(bundle: Bundle) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await BundleFollower(shelf, "ranking", broken, server.use).look()  # type: ignore[arg-type]


async def test_following_goes_on_for_ever(shelf: Shelf, server: Server) -> None:
    task = asyncio.create_task(
        follow_bundle(shelf, "ranking", server.load, server.use, every_s=0.01)  # type: ignore[arg-type]
    )
    async with asyncio.timeout(10):
        for number in ("1", "2"):
            shelf.alias = shelf.put(number, number)
            while number not in server.serving:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    task.cancel()
    assert server.serving == ["1", "2"]
