"""The direct reader and writer of Feast's layout against Feast itself: byte for byte, nulls and ages included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.platform.redis.feast_cli import FeastRepo
from winnow.errors import DeadlineExceeded, InvalidArgument, Unavailable
from winnow.feast_layout import Layout, decode, decode_time, encode, encode_time, entity_key, field_of
from winnow.feature_views import ITEM_STATIC, SESSION_ACTIVITY, SESSION_S, USER_ACTIVITY, USER_PROFILE, Cell, StoredView
from winnow.redis import Hashes, connect

pytestmark = [pytest.mark.platform, pytest.mark.slow]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "string_list": st.lists(TEXTS, max_size=24),
    "double": st.floats(),
}
TIMES_NS = st.integers(-(10**9) * 5 * 10**9, 7 * 10**9 * 10**9)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
USER = Layout((USER_PROFILE, USER_ACTIVITY))


def values_of(cell: Cell, dtype: str) -> Any:
    """The cell as Feast's message, made by its own converter."""
    from feast.type_map import python_values_to_proto_values
    from feast.value_type import ValueType

    kinds = {"string": ValueType.STRING, "string_list": ValueType.STRING_LIST, "double": ValueType.DOUBLE}
    return python_values_to_proto_values([cell], kinds[dtype])[0]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64), TEXTS, TEXTS)
def test_keys_and_fields_are_those_of_feast(name: str, entity: str, project: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=[name], entity_values=[Value(string_val=entity)])
    assert entity_key(name, entity, project) == _redis_key(project, key, entity_key_serialization_version=3)
    assert field_of(name, entity) == _mmh3(f"{name}:{entity}")


@given(st.data(), st.sampled_from(sorted(CELLS)))
def test_values_are_written_as_feast_writes_them_and_read_back(data: st.DataObject, dtype: Any) -> None:
    cell = data.draw(st.none() | CELLS[dtype])
    message = encode(cell, dtype)
    assert message == values_of(cell, dtype).SerializeToString()
    assert decode(message) == cell or cell != cell


@given(TIMES_NS)
def test_times_are_written_as_protobuf_writes_them_and_read_back(at_ns: int) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    seconds, nanos = divmod(at_ns, 10**9)
    assert encode_time(at_ns) == Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
    assert decode_time(encode_time(at_ns)) == at_ns


@given(st.binary(min_size=1, max_size=40))
def test_bytes_that_are_no_value_are_refused_and_nothing_else_happens(message: bytes) -> None:
    try:
        found = decode(message)
    except InvalidArgument:
        return
    assert isinstance(found, str | float | list)


@pytest.fixture(scope="module")
def repo(feast_repo: FeastRepo) -> FeastRepo:
    from training.offline import write

    write(feast_repo.home)
    feast_repo.feast("apply")
    return feast_repo


@st.composite
def rows_of(draw: st.DrawFn, view: StoredView) -> list[Cell]:
    """A row as `StoredView.row` makes them: no empty text, no empty list, no NaN."""
    kinds = {
        "string": TEXTS.filter(bool),
        "string_list": st.lists(TEXTS.filter(bool), min_size=1, max_size=24),
        "double": st.floats(allow_nan=False),
    }
    return [draw(st.none() | kinds[view.dtype(name)]) for name in view.features]


def write_by_feast(repo: FeastRepo, view: StoredView, key: str, cells: list[Cell], at: datetime) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    values = {n: values_of(c, view.dtype(n)) for n, c in zip(view.features, cells, strict=True)}
    entity = EntityKey(join_keys=[view.key], entity_values=[Value(string_val=key)])
    provider = repo.store._get_provider()
    of_feast = repo.store.get_feature_view(view.name)
    provider.online_store.online_write_batch(repo.store.config, of_feast, [(entity, values, at, None)], None)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_either_writes_the_other_reads_and_the_hashes_are_the_same_bytes(
    repo: FeastRepo, data: st.DataObject
) -> None:
    client: Any = connect(repo.redis_url, 5.0)
    client.flushall()
    for view in (USER_PROFILE, ITEM_STATIC, USER_ACTIVITY):
        layout, cells = Layout((view,)), data.draw(rows_of(view))
        at = NOW - timedelta(microseconds=data.draw(st.integers(0, 10**15)))
        write_by_feast(repo, view, "theirs", cells, at)
        at_ns = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
        client.hset(layout.key("ours"), mapping=layout.row(view, cells, at_ns))
        # Views of one entity share a hash, so each adds to what is there.
        assert client.hgetall(layout.key("ours")) == client.hgetall(layout.key("theirs"))
        assert layout.read(["theirs"], Hashes(client), NOW.timestamp()) == [cells]
        refs = [f"{view.name}:{name}" for name in view.features]
        online = repo.store.get_online_features(refs, [{view.key: "ours"}]).to_dict()
        assert [online[name][0] for name in view.features] == cells
    client.close()


def test_a_row_older_than_its_view_lasts_is_missing_which_feasts_redis_store_does_not_see(repo: FeastRepo) -> None:
    client: Any = connect(repo.redis_url, 5.0)
    layout = Layout((SESSION_ACTIVITY,))
    cells: list[Cell] = [encoded_default(SESSION_ACTIVITY, name) for name in SESSION_ACTIVITY.features]
    write_by_feast(repo, SESSION_ACTIVITY, "s1", cells, NOW)
    hashes = Hashes(client)
    assert layout.read(["s1"], hashes, NOW.timestamp() + SESSION_S) == [cells]
    assert layout.read(["s1"], hashes, NOW.timestamp() + SESSION_S + 0.001) == [[None] * len(cells)]
    ref = f"{SESSION_ACTIVITY.name}:user_log_events"
    online = repo.store.get_online_features([ref], [{"session_id": "s1"}]).to_dict()
    assert online["user_log_events"] == [1.5], "Feast has begun to look at ages: the reader's docstring is out of date"


def encoded_default(view: StoredView, name: str) -> Cell:
    return 1.5 if view.dtype(name) == "double" else "x"


def test_a_key_that_redis_forgot_and_one_of_another_project_are_missing(repo: FeastRepo) -> None:
    client: Any = connect(repo.redis_url, 5.0)
    write_by_feast(repo, USER_PROFILE, "short", ["f", None, None, None, "de"], NOW)
    hashes = Hashes(client)
    (found,) = USER.read(["short"], hashes, NOW.timestamp())
    assert (found[0], found[4]) == ("f", "de")
    assert Layout(USER.views, "another").read(["short"], hashes, NOW.timestamp()) == [[None] * len(USER.features)]
    client.pexpire(USER.key("short"), 1)
    while client.exists(USER.key("short")):
        pass
    assert USER.read(["short"], hashes, NOW.timestamp()) == [[None] * len(USER.features)]


def test_rows_become_columns_with_nan_for_null(repo: FeastRepo) -> None:
    columns = USER.columns(
        [[None] * len(USER.features), ["x" if USER.dtypes[n] != "double" else 2.5 for n in USER.features]]
    )
    assert columns["user_gender"].tolist() == [None, "x"]
    assert columns["user_log_events"].tolist()[1] == 2.5
    assert columns["user_log_events"].tolist()[0] != columns["user_log_events"].tolist()[0]
    assert {len(column) for column in USER.columns([]).values()} == {0}


def test_five_hundred_rows_come_in_the_order_asked(redis_url: str) -> None:
    client: Any = connect(redis_url, 5.0)
    layout = Layout((ITEM_STATIC,))
    cells: list[Cell] = [None] * len(ITEM_STATIC.features)
    for n in range(500):
        row = [["a" * 300, str(n)], *cells[1:]]
        client.hset(layout.key(f"i{n}"), mapping=layout.row(ITEM_STATIC, row, 10**9))
    keys = [f"i{(7 * n) % 501}" for n in range(500)]
    found = [row[0] for row in layout.read(keys, Hashes(client), 1.0)]
    assert found == [None if key == "i500" else ["a" * 300, key[1:]] for key in keys]


def test_a_frozen_redis_costs_one_time_out_and_a_restarted_one_nothing(redis_running: Any, redis_url: str) -> None:
    server, _ = redis_running
    hashes = Hashes(connect(redis_url, 0.1))
    USER.read(["u1"], hashes, 0.0)
    server.freeze()
    try:
        with pytest.raises(DeadlineExceeded):
            USER.read(["u1"], hashes, 0.0)
    finally:
        server.thaw()
    assert USER.read(["u1"], hashes, 0.0) == [[None] * len(USER.features)]
    client: Any = connect(redis_url, 1.0)
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert USER.read(["u1"], hashes, 0.0) == [[None] * len(USER.features)]
    client.set(USER.key("u1"), b"no hash")
    with pytest.raises(Unavailable):
        USER.read(["u1"], hashes, 0.0)
