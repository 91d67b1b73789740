"""API keys: shown once, kept as hashes, taken and revoked within seconds, and the command line that makes them."""

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from services.gateway import api_keys as module
from services.gateway.api_keys import ApiKeys, create
from tests.guards import key_file, new_key
from winnow.audit.asked import operator
from winnow.audit.verify import verify_folder
from winnow.errors import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated, Unavailable

KEY, FILE = new_key(("recommend", "privacy"))
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whose audit log says who made keys."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("WINNOW_HOME", str(folder))
    return folder


def winnow(*words: str) -> str:
    ran = CliRunner().invoke(app, ["keys", *words], catch_exceptions=True)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_key_is_known_by_its_hash_alone() -> None:
    caller = ApiKeys(FILE).find(KEY)
    assert (caller.subject, caller.kind, caller.scopes) == ("shop", "key", {"recommend", "privacy"})
    assert KEY not in FILE
    assert KEY.rpartition("_")[2] not in FILE
    assert hashlib.sha256(KEY.encode()).hexdigest() in FILE


def test_keys_are_long_and_never_the_same() -> None:
    made = {create("a", ("admin",), None)[0] for _ in range(100)}
    assert len(made) == 100
    assert all(len(key.rpartition("_")[2]) == 64 for key in made), "256 bits"


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY[:-1],
        KEY + "0",
        KEY.upper(),
        KEY.replace("shop", "shot"),
        f" {KEY}",
        KEY.replace("winnow_", ""),
        "winnow_shop_",
        DIGEST,
        f"winnow_shop_{DIGEST}",
        "\ud800",
        KEY * 900,
    ],
    ids=str.__len__,  # the key is another one in every process
)
def test_what_is_nearly_a_key_is_none(text: str) -> None:
    with pytest.raises(Unauthenticated, match="not valid"):
        ApiKeys(FILE).find(text)


HELD = ApiKeys(FILE)


@given(st.text() | st.from_regex(module.KEY, fullmatch=True))
def test_no_text_is_a_key_by_chance(text: str) -> None:
    with pytest.raises(Unauthenticated):
        HELD.find(text)


def test_a_hash_is_compared_in_constant_time_whether_or_not_the_id_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, of_hmac = [], module.hmac.compare_digest
    monkeypatch.setattr(module.hmac, "compare_digest", lambda *two: compared.append(two) or of_hmac(*two))
    for text in (KEY, KEY[:-1] + "0", KEY.replace("shop", "nobody"), "nonsense"):
        with suppress(Unauthenticated):
            ApiKeys(FILE).find(text)
    assert len(compared) == 4


def test_a_key_expires_while_the_gateway_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    key, file = new_key(expires_at=datetime.now(UTC) + timedelta(hours=1))
    keys = ApiKeys(file)
    keys.find(key)
    later = time.time() + 3_601
    monkeypatch.setattr(module.time, "time", lambda: later)
    with pytest.raises(Unauthenticated, match="expired"):
        keys.find(key)


def test_two_keys_of_one_name_are_refused() -> None:
    two = [create("a", ("admin",), None)[1] for _ in range(2)]
    with pytest.raises(FailedPrecondition, match="twice"):
        ApiKeys(key_file(*two))


def test_a_change_of_the_file_is_taken_up_and_a_bad_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    file.write_text(FILE)
    keys = ApiKeys(file=str(file))
    other, content = new_key(id="other")
    for bad in ("{", FILE[:-9], "", '{"keys":[{"id":"' + KEY + '"}]}', " " * (module.MAX_FILE_BYTES + 1)):
        file.write_text(bad)
        keys.look()
        keys.find(KEY)
    file.unlink()
    keys.look()
    keys.find(KEY)
    assert KEY not in caplog.text
    file.write_text(content)
    keys.look()
    keys.find(other)
    with pytest.raises(Unauthenticated):
        keys.find(KEY)


# ---------------------------------------------------------------------------------------- winnow keys


def test_a_key_is_made_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = winnow(
        "create", "shop", "--scopes", "recommend,events:write", "--expires", "90d", "--file", str(file)
    ).strip()
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    keys = ApiKeys(file=str(file))
    assert keys.find(key).scopes == {"recommend", "events:write"}
    second = winnow("create", "jobs", "--scopes", "admin", "--file", str(file)).strip()
    (first, other) = json.loads(winnow("list", "--json", "--file", str(file)))
    assert (first["id"], first["scopes"], other["expires_at"]) == ("shop", ["recommend", "events:write"], None)
    shown = winnow("list", "--file", str(file))
    assert "shop" in shown
    for secret in (key, second, hashlib.sha256(key.encode()).hexdigest()):
        assert secret not in shown + json.dumps([first, other])
    winnow("revoke", "shop", "--file", str(file))
    keys.look()
    keys.find(second)
    with pytest.raises(Unauthenticated):
        keys.find(key)
    assert [path.name for path in tmp_path.iterdir() if path.suffix not in (".json", ".lock")] == []


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["create", "Shop", "--scopes", "admin"], "id"),
        (["create", "shop", "--scopes", "everything"], "--scopes"),
        (["create", "shop", "--scopes", ","], "--scopes"),
        (["create", "shop", "--scopes", "admin", "--expires", "soon"], "--expires"),
        (["create", "there", "--scopes", "admin"], "id"),
        (["revoke", "shop"], "id"),
    ],
)
def test_what_is_wrong_is_said_by_name_and_changes_nothing(tmp_path: Path, words: list[str], field: str) -> None:
    file = tmp_path / "keys.json"
    winnow("create", "there", "--scopes", "admin", "--file", str(file))
    before = file.read_text()
    with pytest.raises((InvalidArgument, NotFound)) as wrong:
        winnow(*words, "--file", str(file))
    assert wrong.value.field == field
    assert file.read_text() == before


def test_who_makes_or_revokes_a_key_is_audited_without_the_key_or_its_hash(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "keys.json"
    key = winnow("create", "jobs", "--scopes", "admin", "--file", str(file)).strip()
    winnow("revoke", "jobs", "--file", str(file))
    with pytest.raises(NotFound):
        winnow("revoke", "jobs", "--file", str(file))
    with pytest.raises(InvalidArgument):
        winnow("revoke", key, "--file", str(file))
    assert verify_folder(home / "audit").every_fault == []
    text = "".join(path.read_text() for path in sorted((home / "audit").rglob("*.jsonl")))
    acts = [act for act in map(json.loads, text.splitlines()) if "phase" in act]
    assert [(act["kind"], act["phase"]) for act in acts] == [
        ("key.create", "begun"),
        ("key.create", "done"),
        ("key.revoke", "begun"),
        ("key.revoke", "done"),
        ("key.revoke", "begun"),
        ("key.revoke", "failed"),
    ]
    assert (acts[0]["id"], acts[0]["scopes"], acts[2]["id"], acts[3]["scopes"]) == (
        "jobs",
        ["admin"],
        "jobs",
        ["admin"],
    )
    assert acts[0]["who"] == operator()
    for secret in (key, key.rpartition("_")[2], hashlib.sha256(key.encode()).hexdigest()):
        assert secret not in text


def test_a_key_that_cannot_be_audited_is_not_made(tmp_path: Path, home: Path) -> None:
    (home / "audit").write_text("in the way")
    with pytest.raises(Unavailable):
        winnow("create", "jobs", "--scopes", "admin", "--file", str(tmp_path / "keys.json"))
    assert not (tmp_path / "keys.json").exists()
