"""`winnow`: every verb of the platform. One verb a file; each imports what it needs only when it runs."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer
from pydantic import ValidationError

from cli import (
    audit,
    bench,
    certificates,
    demo,
    evaluate,
    ingest,
    keys,
    optimize,
    promote,
    recommend,
    refresh,
    replay,
    retrain,
    rules,
    schedule,
    serve,
    skew,
    topics,
    trace,
    train,
    train_model,
    up,
)
from cli.console import err, failure, note
from cli.turns import exit_of
from winnow.errors import WinnowError
from winnow.registry import prepare
from winnow.variables import unread

app = typer.Typer(
    name="winnow",
    help="A self-hosted recommendation platform: retrieve, filter, rank, arrange, explain.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("ingest")(ingest.ingest)
train_model.add_models(train.app)
app.add_typer(train.app, name="train")
app.add_typer(keys.app, name="keys")
app.add_typer(rules.app, name="rules")
app.command("promote")(promote.promote)
app.command("refresh")(refresh.refresh)
app.command("retrain")(retrain.retrain)
app.command("schedule")(schedule.schedule)
app.command("evaluate")(evaluate.evaluate)
app.command("optimize")(optimize.optimize)
app.command("replay")(replay.replay)
app.command("skew")(skew.skew)
app.command("topics")(topics.topics)
app.command("serve")(serve.serve)
app.command("certificates")(certificates.certificates)
app.command("up")(up.up)
app.command("status")(up.status)
app.command("down")(up.down)
app.command("recommend")(recommend.recommend)
app.command("trace")(trace.trace)
app.add_typer(audit.app, name="audit")
app.command("bench", context_settings=bench.PASSED_ON)(bench.bench)


def main() -> None:
    """Run the command line. Exits with 1 when something is wrong, 2 when the command is, 130 after Ctrl-C; jobs that
    run by the clock have two more (`cli.turns.Exit`)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait sleep: spinning starves a shared machine
    prepare()
    for words in unread(os.environ):
        note(f"warning: {words}")
    try:
        app()
    except WinnowError as error:
        fail(failure(error), exit_of(error))
    except ValidationError as wrong:
        from winnow.serving.settings import words_of

        fail(f"error: {words_of(wrong)}", 2)
    except OSError as wrong:
        if wrong.filename is None:  # nothing that another place would mend
            raise
        fail(f"error: {wrong.filename}: {wrong.strerror}; choose a folder that can be written with --home", 1)


def fail(words: str, status: int) -> NoReturn:
    err.print(words, markup=False)
    sys.exit(status)
