"""Where the command line keeps things: one home per data set below `build/`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

BUILD = Path("build")

KNOWN = "ml-100k, ml-1m, goodbooks, online-retail, generated:ITEMS (made up), or the path of a folder."


def named(data: str) -> str:
    if not data.strip():
        raise typer.BadParameter(f"names nothing; give {KNOWN}")
    return data


Data = Annotated[str, typer.Option("--data", help=KNOWN, callback=named)]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="The home's folder; build/homes/<data> when not given.", envvar="WINNOW_HOME"),
]
Index = Annotated[
    str,
    typer.Option(
        "--index",
        help="Kind of the vector index: auto, flat, fp16, sq8, ivf, ivf_hnsw, ivf_sq8, ivf_pq, hnsw or hnsw_sq8.",
        envvar="WINNOW_INDEX",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def short_name(data: str) -> str:
    """The name of a data set, fit for a folder: of a path its last part."""
    return re.sub(r"[^\w.-]+", "-", Path(data).name if "/" in data else data).strip("-.") or "data"


def home_of(data: str, home: Path | None = None) -> Path:
    """The home that a command works in."""
    return BUILD / "homes" / short_name(data) if home is None else home


def evaluation_home(data: str) -> Path:
    """A home of its own for evaluation: its models must not know what is tested."""
    return BUILD / "evaluate" / short_name(data)


def registry_uri(home: Path) -> str:
    return f"sqlite:///{home.absolute()}/mlflow.db"
