"""`winnow bench`: the benchmark, which lives in the top-level package `bench` and takes its own options."""

from __future__ import annotations

import typer

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(context: typer.Context) -> None:
    """Measure latency, throughput and cost per request (options: winnow bench --help)."""
    from bench.main import main

    raise typer.Exit(main(context.args))
