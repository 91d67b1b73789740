"""`winnow up` and `winnow down`: the platform on its real parts, on this machine, in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.table import Table

from cli.console import note, out, table
from cli.homes import BUILD, Data, HomeOption, home_of
from cli.models import registry_of
from winnow.errors import FailedPrecondition, InvalidArgument
from winnow.home import DATASET

FOLDER = BUILD / "up"
WITHOUT = "Parts to leave out, separated by commas: redis, kafka, mlflow, triton, spark."


def up(
    data: Data = "ml-100k",
    home: HomeOption = None,
    without: Annotated[str, typer.Option(help=WITHOUT)] = "",
    schedule: Annotated[bool, typer.Option("--schedule", help="Also refresh and retrain by the clock.")] = False,
) -> None:
    """Start Redis, Kafka, MLflow, Triton, Spark's stream and the five services, and say where they are.

    What runs already stays. A home without promoted models is refused: make demo ONCE=1 trains them.
    """
    from parts.program import launch
    from parts.stack import PARTS, SCHEDULE, Stack

    left_out = {name.strip() for name in without.split(",") if name.strip()}
    if unknown := left_out - {*PARTS}:
        raise InvalidArgument(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}", field="--without")
    chosen = home_of(data, home)
    registry = registry_of(chosen)
    for kind in ("retrieval", "ranking"):
        if registry.champion(kind) is None:
            remedy = f"make demo ONCE=1 DATA={data} trains it" if home is None else trained_by(kind, chosen)
            raise FailedPrecondition(f"{chosen} has no promoted {kind} model; {remedy}")
    parts = tuple(name for name in PARTS if name not in left_out)
    stack = Stack.planned(FOLDER, chosen, (*parts, SCHEDULE) if schedule else parts)
    programs = stack.programs()
    stack.save()
    try:
        for wave in stack.waves():
            there = [launch(program) for program in wave]
            for one in there:
                note(f"{one.program.name} …")
                one.wait_until_ready()
    except BaseException:
        note("not all of it is up; what was started stays: make down stops it, make up goes on")
        raise
    out.print(shown(stack.ports, [program.name for program in programs]))
    note("make down stops all of it; logs lie in build/up")


def trained_by(kind: str, home: Path) -> str:
    """What trains the first model of this kind in a home that somebody named."""
    if not (home / DATASET).is_file():
        return f"winnow demo --once --data … --home {home} reads a data set into it and trains it"
    if kind == "retrieval":
        return f"winnow train retrieval --promote --home {home} trains it; then ranking, likewise"
    return f"winnow train {kind} --promote --home {home} trains it"


def down() -> None:
    """Stop what `winnow up` started, services first."""
    from parts.program import find
    from parts.stack import Stack

    stack = Stack.noted(FOLDER)
    running = [] if stack is None else [one for program in stack.programs() if (one := find(program))]
    for one in reversed(running):
        note(f"{one.program.name} …")
        one.stop()
    note("nothing was up" if not running else f"{len(running)} programs stopped; what they keep stays in build/up")


def status() -> None:
    """Which programs of `winnow up` run, whether they answer, and what memory they hold."""
    from parts.program import find
    from parts.stack import Stack

    stack = Stack.noted(FOLDER)
    made = table("winnow up", "program", "#process", "#memory MB", "state")
    for program in stack.programs() if stack else []:
        one = find(program)
        if one is None:
            made.add_row(program.name, "", "", "not running")
        else:
            made.add_row(program.name, str(one.process.pid), memory(one.process), program.ready() or "answers")
    out.print(made)
    if stack is None:
        note("nothing was started here: make up does")
    else:
        out.print(shown(stack.ports, [program.name for program in stack.programs()]))


def memory(process: psutil.Process) -> str:
    """Resident memory of a process and its children, MB."""
    every = [process, *process.children(recursive=True)]
    return f"{sum(one.memory_info().rss for one in every) / 1e6:.0f}"


def shown(ports: dict[str, int], names: list[str]) -> Table:
    """Where to find what."""
    made = table("up", "what", "where")
    made.add_row("REST", f"http://127.0.0.1:{ports['rest']}/docs")
    made.add_row("gRPC", f"127.0.0.1:{ports['gateway']}")
    for name in names:
        if name == "mlflow":
            made.add_row("MLflow", f"http://127.0.0.1:{ports['mlflow']}")
        elif name in ("redis", "kafka", "triton", "spark", "schedule"):
            made.add_row(name, f"127.0.0.1:{ports[name]}")
    return made
