"""`winnow rules`: what is checked, what is written, what a gateway then does, and what the audit log says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from services.gateway.rules import RuleBook
from training.ingest import ingest
from winnow.errors import FailedPrecondition, InvalidArgument, NotFound, WinnowError

BURY = {"kind": "bury", "name": "late", "filter": {"field": "brand", "op": "in", "values": ["Brand 3"]}}
PIN = {
    "kind": "pin",
    "name": "first",
    "item_id": "i7",
    "place": 1,
    "surfaces": ["home"],
    "ends_at": "2030-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("rules") / "home"
    ingest("generated:400,20,500", home)
    return home


def rules(folder: Path, *told: dict[str, Any]) -> Path:
    file = folder / "wanted.json"
    file.write_text(json.dumps({"rules": told}))
    return file


def ran(*words: str | Path) -> str:
    """Its output. A refusal is raised."""
    done = CliRunner().invoke(app, ["rules", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: str | Path) -> WinnowError:
    with pytest.raises((FailedPrecondition, NotFound, InvalidArgument)) as wrong:
        ran(*words)
    return wrong.value


def test_what_is_published_counts_and_every_version_is_kept(shop: Path, tmp_path: Path) -> None:
    book = RuleBook(shop / "rules" / "rules.json")
    versions = []
    for told in ((BURY,), (BURY, PIN), ()):
        ran("publish", rules(tmp_path, *told), "--home", shop)
        book.look()
        versions.append(book.rules.version)
        assert [one.name for one in book.rules.file.rules] == [one["name"] for one in told]
        shown = json.loads(ran("show", "--home", shop, "--json"))
        assert (shown["version"], len(shown["rules"])) == (versions[-1], len(told))
    kept = {file.stem for file in (shop / "rules").glob("*.json")}
    assert kept == {"rules", *versions[:2]}
    assert versions[2] == ""
    again = RuleBook(shop / "rules" / f"{versions[1]}.json")
    assert again.rules.version == versions[1], "a version read again is the version that it is called by"
    log = "".join(file.read_text(errors="replace") for file in (shop / "audit").rglob("*") if file.is_file())
    assert all(version in log for version in versions[:2])
    assert log.count("rules.publish") >= 3


def test_the_table_says_what_where_and_when(shop: Path, tmp_path: Path) -> None:
    ran("publish", rules(tmp_path, BURY, PIN), "--home", shop)
    table = " ".join(ran("show", "--home", shop).split())
    for words in ("bury", "Brand 3", "pin place 1", "i7", "home", "until 2030-01-01", "anywhere", "always"):
        assert words in table


def test_what_contradicts_itself_is_not_published(shop: Path, tmp_path: Path) -> None:
    ran("publish", rules(tmp_path, BURY), "--home", shop)
    before = (shop / "rules" / "rules.json").read_bytes()
    boost = {**BURY, "kind": "boost", "name": "early", "strength": 1}
    unknown = {**PIN, "name": "second", "item_id": "nobody made this"}
    for command in ("check", "publish"):
        wrong = refused(command, rules(tmp_path, BURY, boost, unknown), "--home", shop)
        assert "early boosts what late buries: the same items" in wrong.detail
        assert "second pins nobody made this, which is not in the catalogue" in wrong.detail
    assert (shop / "rules" / "rules.json").read_bytes() == before


def test_what_only_three_rules_show_is_not_published_and_what_was_not_found_out_is_noted(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brands = [{"field": "brand", "op": "in", "values": [f"Brand {n}"]} for n in (1, 2)]
    wanted = [{"kind": "quota", "name": f"own-{n}", "filter": brands[n], "at_least": 3} for n in (0, 1)]
    few = {"kind": "quota", "name": "few", "filter": {"any": brands}, "at_most": 4}
    said = refused("publish", rules(tmp_path, *wanted, few), "--home", shop).detail
    for name in (
        "own-0 (rules.0) wants at least 3",
        "own-1 (rules.1)",
        "few (rules.2) wants at most 4",
        "ask less of one",
    ):
        assert name in said
    assert "no contradiction found" in ran("check", rules(tmp_path, *wanted), "--home", shop)
    monkeypatch.setattr("cli.rules.LIMIT_S", -1.0)
    assert "not found out whether 1 set of rules" in ran("check", rules(tmp_path, *wanted), "--home", shop)


def test_what_is_missing_is_named(shop: Path, tmp_path: Path) -> None:
    assert refused("check", tmp_path / "none.json", "--home", shop).field == "FILE"
    assert refused("check", rules(tmp_path, BURY), "--home", tmp_path / "nowhere").field == "--home"
    assert refused("show", "--home", tmp_path / "nowhere").field == "--home"
    assert "rules.0.pin.place" in refused("check", rules(tmp_path, PIN | {"place": 51}), "--home", shop).detail


def test_what_gateways_could_not_read_again_is_not_published(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written out a number may be longer than it was given."""
    ran("publish", rules(tmp_path, BURY), "--home", shop)
    before = (shop / "rules" / "rules.json").read_bytes()
    file = tmp_path / "short.json"
    file.write_text('{"rules":[{"kind":"bury","name":"a","filter":{"field":"price","op":"lt","number":1e11}}]}')
    monkeypatch.setattr("cli.rules.MAX_FILE_BYTES", file.stat().st_size)
    assert "written out it has more" in refused("publish", file, "--home", shop).detail
    assert (shop / "rules" / "rules.json").read_bytes() == before


def test_a_rule_of_nothing_is_no_error_and_is_said(shop: Path, tmp_path: Path) -> None:
    nothing = {**BURY, "name": "typo", "filter": {"field": "brand", "op": "in", "values": ["Brnad 3"]}}
    assert "typo matches no item of 400" in ran("check", rules(tmp_path, nothing), "--home", shop)


def test_a_rule_that_empties_every_page_is_said(shop: Path, tmp_path: Path) -> None:
    everything = {"name": "all", "kind": "block", "filter": {"all": []}}
    assert "all blocks every item: where it counts, pages are empty" in ran(
        "check", rules(tmp_path, everything), "--home", shop
    )
