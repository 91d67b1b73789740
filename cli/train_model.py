"""`winnow train als` and its like: any model of the catalogue, in the place of the two towers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cli.console import bars
from cli.homes import AsJson, Data, HomeOption, home_of
from cli.promote import Uri
from cli.settings_file import SettingsFile, read_settings
from cli.train import Promote, Seed, planned
from training.models.catalogue import CATALOGUE

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One of the model's settings (docs/models.md); may be repeated."),
]


def add_models(app: typer.Typer) -> None:
    """One command each."""
    for name in CATALOGUE:
        app.command(name, help=f"The model {name}, its tables or vectors, as a challenger of retrieval.")(command(name))


def command(name: str) -> Callable[..., None]:
    def train(
        data: Data = "ml-100k",
        home: HomeOption = None,
        settings: Settings = None,
        file: SettingsFile = None,
        seed: Seed = 0,
        promote: Promote = False,
        mlflow: Uri = "",
        as_json: AsJson = False,
    ) -> None:
        from training.models.catalogue import kind_of, settings_of
        from training.train_model import train as work

        chosen = read_settings(file, name) | dict(map(pair, settings or ()))
        settings_of(kind_of(name), chosen)  # refuse a wrong one before any work
        plan = planned(home_of(data, home), "quick", seed, promote, mlflow, as_json)
        workshop = plan.workshop
        workshop.preset = name
        with bars(disable=as_json) as progress:
            bundle = work(workshop.dataset, workshop.parts, name, chosen, seed, workshop.home / "bundles", progress)
        plan.finish(bundle)

    return train


def pair(words: str) -> tuple[str, str]:
    name, equals, value = words.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{words!r} is not NAME=VALUE", param_hint="--set")
    return name.strip(), value.strip()
