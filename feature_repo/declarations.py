"""What Feast is told: entities, views and services, all taken from `winnow.feature_views`. Nothing is computed here."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Float64, String

from winnow.feature_views import KEYS, SERVICES, VIEWS, StoredView
from winnow.home import feature_file

HOME = Path(os.environ["WINNOW_HOME"]).absolute()
TYPES = {"string": String, "string_list": Array(String), "double": Float64}

entities = {
    name: Entity(name=name, join_keys=[key], value_type=ValueType.STRING, description=f"one {name}")
    for name, key in KEYS.items()
}


def source(view: StoredView) -> FileSource:
    return FileSource(
        name=f"{view.name}_file",
        path=str(feature_file(HOME, view.name)),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )


def feature_view(view: StoredView) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=[entities[view.entity]],
        ttl=timedelta(seconds=view.lasts_s),
        schema=[
            Field(name=view.key, dtype=String),
            *(Field(name=feature, dtype=TYPES[view.dtype(feature)]) for feature in view.features),
        ],
        source=source(view),
        online=True,
    )


views = {view.name: feature_view(view) for view in VIEWS}
services = [
    FeatureService(name=name, features=[views[view.name] for view in together]) for name, together in SERVICES.items()
]
# Feast finds declarations by the names of a module, not inside its dicts and lists.
globals().update({f"{name}_entity": entity for name, entity in entities.items()})
globals().update(views)
globals().update({f"{service.name}_service": service for service in services})
