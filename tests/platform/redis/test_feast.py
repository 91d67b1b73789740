"""The feature repository does what a user of Feast expects of one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.platform.redis.feast_cli import FeastRepo
from training.as_of import as_of
from training.dataset import Dataset, load
from training.offline import write
from winnow.feast_layout import Layout
from winnow.feature_views import SERVICES, VIEWS, Cell, StoredView
from winnow.features import UserView
from winnow.redis import Hashes, connect
from winnow.types import Context

pytestmark = [pytest.mark.platform, pytest.mark.slow]
UNTIL = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def repo(feast_repo: FeastRepo) -> FeastRepo:
    """Offline files written, declarations applied, everything materialised."""
    write(feast_repo.home)
    feast_repo.feast("apply")
    feast_repo.feast("materialize-incremental", UNTIL.isoformat())
    return feast_repo


def read(repo: FeastRepo, views: tuple[StoredView, ...], keys: list[str]) -> list[list[Cell]]:
    client = connect(repo.redis_url, 5.0)
    return Layout(views).read(keys, Hashes(client), time.time())


def test_apply_declares_every_view_of_winnow_with_its_features_and_types(repo: FeastRepo) -> None:
    declared = {view.name: view for view in repo.store.list_feature_views()}
    assert set(declared) == {view.name for view in VIEWS}
    types = {"string": "String", "string_list": "Array(String)", "double": "Float64"}
    for view in VIEWS:
        of_feast = declared[view.name]
        assert [field.name for field in of_feast.features] == list(view.features)
        assert [str(field.dtype) for field in of_feast.features] == [types[view.dtype(f)] for f in view.features]
        assert (of_feast.entities, of_feast.ttl) == ([view.entity], timedelta(seconds=view.lasts_s))
    assert {entity.name for entity in repo.store.list_entities()} >= {"user", "item", "session"}
    assert {service.name for service in repo.store.list_feature_services()} == set(SERVICES)


def test_the_registry_is_a_database(repo: FeastRepo) -> None:
    assert "user_activity" in repo.feast("feature-views", "list")
    assert repo.store.config.registry.registry_type == "sql"


def test_online_is_the_newest_offline_row_to_feast_and_to_the_direct_reader(repo: FeastRepo) -> None:
    for name, key, entity in (("user", "user_id", "user_id"), ("item", "item_id", "item_id")):
        views = SERVICES[name]
        keys = sorted(pl.read_parquet(repo.home / "features" / f"{views[0].name}.parquet")[key].unique())
        service = repo.store.get_feature_service(name)
        online = repo.store.get_online_features(service, [{entity: one} for one in keys]).to_dict()
        direct = read(repo, views, keys)
        newest = as_of(repo.home, views, pl.DataFrame({key: keys, "event_timestamp": [UNTIL] * len(keys)}))
        for n, feature in enumerate(Layout(views).features):
            column = [row[n] for row in direct]
            assert column == online[feature] == newest[feature].to_list(), feature
        assert any(cell is None for row in direct for cell in row), "no null was tried"


def test_an_entity_that_nobody_wrote_has_nulls(repo: FeastRepo) -> None:
    online = repo.store.get_online_features(repo.store.get_feature_service("user"), [{"user_id": "nobody"}]).to_dict()
    (row,) = read(repo, SERVICES["user"], ["nobody"])
    assert [online[feature][0] for feature in Layout(SERVICES["user"]).features] == row == [None] * len(row)


def moments(data: Dataset, number: int) -> pl.DataFrame:
    """Distinct pairs of people and moments, an item beside each: at acts, just before and just after them, long before."""
    chance = np.random.default_rng(3)
    acts = chance.choice(len(data.acts), number, replace=False)
    shift = chance.choice([-1e-6, 0.0, 1e-6, -3e7, 86_400.0], number)
    rows = pl.DataFrame(
        {
            "user_id": [data.people[data.acts.user[act]].user_id for act in acts],
            "item_id": [data.item_ids[data.acts.item[act]] for act in chance.permutation(acts)],
            "event_timestamp": [
                datetime.fromtimestamp(data.acts.at[act] + by, UTC) for act, by in zip(acts, shift, strict=True)
            ],
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    return rows.unique(["user_id", "event_timestamp"], keep="first", maintain_order=True)


def historical(repo: FeastRepo, rows: pl.DataFrame, service: str) -> list[dict[str, Any]]:
    asked = rows.with_row_index("asked")
    found = repo.store.get_historical_features(asked.to_pandas(), repo.store.get_feature_service(service)).to_df()
    return pl.from_pandas(found).sort("asked").to_dicts()


def same(left: object, right: object) -> bool:
    """Equal to the bit, where a table's null, its NaN and nothing are one."""
    nothing = [one is None or one != one for one in (left, right)]
    return all(nothing) if any(nothing) else left == right


def test_historical_features_are_those_of_the_moment_in_feast_and_in_training(repo: FeastRepo) -> None:
    rows = moments(load(repo.home), 120)
    of_feast = historical(repo, rows, "ranking")
    of_training = as_of(repo.home, SERVICES["ranking"], rows).to_dicts()
    assert len(of_feast) == len(of_training) == len(rows)
    for left, right in zip(of_feast, of_training, strict=True):
        for feature in Layout(SERVICES["user"]).features + Layout(SERVICES["item"]).features:
            assert same(left[feature], right[feature]), (feature, left, right)
    assert any(row["user_log_events"] == 0 for row in of_training), "nobody was asked of before their first act"


def test_training_is_given_what_serving_would_have_answered_at_that_moment(repo: FeastRepo) -> None:
    data = load(repo.home)
    items = {item.item_id: item for item in data.items}
    (activity,) = (view for view in SERVICES["user"] if view.name == "user_activity")
    for row in as_of(repo.home, (activity,), moments(data, 120)).to_dicts():
        person = next(n for n, one in enumerate(data.people) if one.user_id == row["user_id"])
        before = int(np.searchsorted(data.acts.at, row["event_timestamp"].timestamp(), side="right"))
        state = data.state(person, before)
        served = activity.row(UserView(state, Context(), items.get))
        assert [row[feature] for feature in activity.features] == served


def test_training_keeps_rows_that_share_a_user_and_a_moment_of_which_feasts_file_store_keeps_one(
    repo: FeastRepo,
) -> None:
    data = load(repo.home)
    page = pl.DataFrame(
        {
            "user_id": [data.people[0].user_id] * 3,
            "item_id": data.item_ids[:3].tolist(),
            "event_timestamp": [datetime.fromtimestamp(data.acts.at[-1] + 60, UTC)] * 3,
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )
    of_training = as_of(repo.home, SERVICES["ranking"], page)
    assert of_training["item_id"].to_list() == page["item_id"].to_list()
    assert of_training["item_log_count"].null_count() == 0
    assert len(historical(repo, page, "ranking")) == 1, "Feast has mended it: as_of's docstring is out of date"
