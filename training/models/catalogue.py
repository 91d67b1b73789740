"""Every retrieval model by name; a module is imported when its model is asked for.

A model is one line here, one file, and one line of small settings in tests/contract/test_models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from winnow.errors import InvalidArgument, NotFound
from winnow.nearest import meant

if TYPE_CHECKING:
    from training.models.contract import Model

CATALOGUE: dict[str, str] = {
    "popularity": "training.models.popularity:Popularity",
    "markov": "training.models.markov:Markov",
    "item_knn": "training.models.item_knn:ItemKnn",
    "ease": "training.models.ease:Ease",
    "als": "training.models.als:Als",
    "bpr": "training.models.bpr:Bpr",
    "item2vec": "training.models.item2vec:Item2Vec",
    "sasrec": "training.models.sasrec:SasRec",
    "bert4rec": "training.models.bert4rec:Bert4Rec",
    "gru4rec": "training.models.gru4rec:Gru4Rec",
    "lightgcn": "training.models.lightgcn:LightGcn",
    "hybrid": "training.models.hybrid:Hybrid",
    "deepmf": "training.models.deepmf:DeepMf",
}


def kind_of(name: str) -> type[Model]:
    """The class of a model; NotFound with the names there are."""
    if name not in CATALOGUE:
        raise NotFound(f"no model {name!r}{meant(name, CATALOGUE)}; there are {', '.join(CATALOGUE)}", field="model")
    module, _, attribute = CATALOGUE[name].partition(":")
    found: type[Model] = getattr(import_module(module), attribute)
    return found


def make(name: str, settings: Mapping[str, Any] | None = None, seed: int = 0) -> Model:
    """An unfitted model. `settings` are fields of its settings, as values or as words ("64"); the others keep their
    defaults. NotFound for a name, InvalidArgument for a setting, which its field names."""
    kind = kind_of(name)
    made: Any = kind  # a Protocol does not say how its classes are made
    model: Model = made(settings_of(kind, settings or {}), seed=seed)
    return model


def settings_of(kind: type[Model], wanted: Mapping[str, Any]) -> Any:
    """The settings of a model with these fields."""
    known = [field.name for field in fields(kind.settings_type)]
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"{kind.name} has no such setting; it has {', '.join(known)}", field=name)
    try:
        return TypeAdapter(kind.settings_type).validate_python(dict(wanted))
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"])) or kind.name
        raise InvalidArgument(f"{first['msg']}, got {first['input']!r}", field=where) from wrong
