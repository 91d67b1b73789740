"""`winnow audit`: an untouched log exits with 0, a touched one with 1 and the record's place; acts of commands are in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from cli.models import registry_of
from tests.audits import answer, chain_in, kinds, verified
from tests.unit.winnow.test_registry import bundle
from winnow.audit.chain import Chain
from winnow.audit.verify import Verdict
from winnow.errors import FailedPrecondition


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["audit", *words])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    chain_in(tmp_path / "audit", 50, batch=4, segment_bytes=2**12)
    chain_in(tmp_path / "audit", 5, "cli")
    return tmp_path


def test_a_log_that_nobody_touched_verifies(home: Path) -> None:
    found = run("verify", "--home", str(home), "--json")
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert (told["records"], told["faults"]) == (55, [])
    assert told["records_per_second"] > 0


def test_a_touched_record_is_named_by_file_line_and_number(home: Path) -> None:
    file = sorted((home / "audit" / "gateway" / "0").glob("*.jsonl"))[1]
    file.write_bytes(file.read_bytes().replace(b'"who":"anonymous"', b'"who":"anonymouz"', 1))
    found = run("verify", str(home / "audit"), "--json")
    assert found.exit_code == 1
    [fault] = json.loads(found.stdout)["faults"]
    assert (fault["kind"], fault["file"], fault["line"]) == ("altered", f"gateway/0/{file.name}", 1)
    assert fault["seq"] == int(file.stem)
    assert "altered" in run("verify", str(home / "audit")).stdout


def test_heads_that_were_kept_show_what_was_cut_off(home: Path, tmp_path: Path) -> None:
    kept = tmp_path / "heads.json"
    kept.write_text(run("heads", "--home", str(home), "--json").stdout)
    assert run("verify", "--home", str(home), "--heads", str(kept)).exit_code == 0
    shutil.rmtree(home / "audit" / "gateway")
    shutil.rmtree(home / "audit" / "cli")
    found = run("verify", "--home", str(home), "--heads", str(kept), "--json")
    assert found.exit_code == 1
    assert {fault["kind"] for fault in json.loads(found.stdout)["faults"]} == {"removed"}


def test_records_are_found_by_time_kind_and_request(home: Path) -> None:
    def shown(*words: str) -> list[dict[str, Any]]:
        found = run("show", "--home", str(home), "--json", *words)
        assert found.exit_code == 0, found.output
        return [json.loads(line) for line in found.stdout.splitlines()]

    assert len(shown("--kind", "answer")) == 51
    assert [one["request_id"] for one in shown("--request", "r7")] == ["r7"]
    assert shown("--until", "2020-01-01") == []
    assert len(shown("--since", "2020-01-01T00:00:00Z", "-n", "4")) == 4
    times = [one["at"] for one in shown()]
    assert times == sorted(times)
    assert run("show", "--home", str(home), "--since", "yesterday").exit_code != 0
    assert run("show", "--home", str(home), "--user", "u").exit_code != 0  # there is no key


def test_old_files_go_and_the_log_still_verifies_but_not_when_more_went(home: Path) -> None:
    before = len(list((home / "audit" / "gateway" / "0").glob("*.jsonl")))
    gone = run("prune", "2100-01-01", "--home", str(home), "--json")
    assert gone.exit_code == 0, gone.output
    assert json.loads(gone.stdout)["files"] == before - 1
    assert verified(home / "audit").every_fault == []
    chain = Chain(home / "audit", "gateway", free_bytes=0, segment_bytes=2**12)
    for n in range(30):
        chain.append([answer(n)])
    chain.close()
    verdict: Verdict = verified(home / "audit")
    assert verdict.every_fault == []
    sorted((home / "audit" / "gateway" / "0").glob("*.jsonl"))[0].unlink()
    assert kinds(verified(home / "audit")) == ["removed"]


def test_nothing_goes_where_it_would_not_be_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted((home / "audit").rglob("*.jsonl"))
    monkeypatch.setenv("WINNOW_AUDIT", "off")
    refused = run("prune", "2100-01-01", "--home", str(home))
    assert refused.exit_code != 0
    assert isinstance(refused.exception, FailedPrecondition)
    assert sorted((home / "audit").rglob("*.jsonl")) == before
    assert verified(home / "audit").every_fault == []


def test_what_changes_a_registry_is_an_act(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    first = registry.register(bundle(tmp_path / "bundles" / "one", "one"))
    second = registry.register(bundle(tmp_path / "bundles" / "two", "two"))
    registry.promote(first)
    registry.promote(second)
    registry.note(second, "winnow.forced", "because the shop closes")
    registry.forget(first)
    found = run("show", "--home", str(tmp_path), "--json")
    records = [json.loads(line) for line in found.stdout.splitlines()]
    acts = [one for one in records if one.get("phase") == "begun"]
    assert [one["kind"] for one in acts] == [
        *["model.register"] * 2,
        *["model.alias"] * 2,
        "model.tag",
        "model.forget",
    ]
    assert (acts[3]["was"], acts[3]["version"], acts[3]["alias"]) == ("1", "2", "champion")
    assert acts[4]["text"] == "because the shop closes"
    assert all("@" in one["who"] for one in acts)
    assert len([one for one in records if one.get("phase") == "done"]) == len(acts)
    assert verified(tmp_path / "audit").every_fault == []


def test_an_act_that_cannot_be_recorded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_of(tmp_path)
    monkeypatch.setenv("WINNOW_AUDIT_FREE_BYTES", str(2**62))
    made = bundle(tmp_path / "bundles" / "one", "one")
    with pytest.raises(Exception, match="cannot be audited"):
        registry.register(made)
    monkeypatch.setenv("WINNOW_AUDIT", "off")
    assert registry.versions("retrieval") == []
    assert registry.register(made).number == "1"
