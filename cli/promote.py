"""`winnow promote`: which registered version serves. Moving the alias back is the rollback."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.console import note, show, table
from cli.gate import VERDICT, pass_gate
from cli.homes import AsJson, Data, HomeOption, home_of
from cli.models import Workshop, registry_of
from winnow.artifacts import Kind
from winnow.errors import InvalidArgument, NotFound
from winnow.registry import Version, model_name
from winnow.secrets import without_credentials


class Model(StrEnum):
    RETRIEVAL = "retrieval"
    RANKING = "ranking"


KINDS: dict[Model, Kind] = {Model.RETRIEVAL: "retrieval", Model.RANKING: "ranking"}
Uri = Annotated[
    str,
    typer.Option(
        "--mlflow", help="MLflow's address; the home's own SQLite when not given.", envvar="WINNOW_MLFLOW_URI"
    ),
]


def promote(
    model: Annotated[Model | None, typer.Argument(help="The model; all of them when not given.")] = None,
    version: Annotated[str, typer.Argument(help="Its version; without one, versions are listed.")] = "",
    data: Data = "ml-100k",
    home: HomeOption = None,
    mlflow: Uri = "",
    force: Annotated[str, typer.Option("--force", help="Why it should serve although it is worse; kept.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, or list the versions. One that never served is first compared with the champion
    over the latest acts of the home, and refused if it is worse; one that did may always return."""
    folder = home_of(data, home)
    registry = registry_of(folder, mlflow)
    kinds = [KINDS[model]] if model else list(KINDS.values())
    if version:
        if not version.isdigit():
            raise InvalidArgument("must be a number, for example 3", field="version")
        note(pass_gate(Workshop(folder, ""), registry, Version(kinds[0], version), force))
    listed = {kind: (registry.versions(kind), registry.champion(kind)) for kind in kinds}
    if not any(versions for versions, _ in listed.values()):
        raise NotFound(f"no version is registered in {without_credentials(registry.uri)}; winnow train registers one")
    rows = table("registered versions", "model", "#version", "bundle", "champion", "verdict")
    for kind, (versions, champion) in listed.items():
        for one in versions:
            verdict = registry.notes(one).get(VERDICT, "")
            rows.add_row(model_name(kind), one.number, one.bundle, "champion" if one == champion else "", verdict)
    document: dict[str, Any] = {
        kind: [{"version": v.number, "bundle": v.bundle, "champion": v == champion} for v in versions]
        for kind, (versions, champion) in listed.items()
    }
    show(document, rows, as_json)
