"""`winnow serve`: all five services in this process, or one of them, until Ctrl-C."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from typing import Annotated

import typer

from cli.homes import Data, HomeOption, home_of
from winnow.errors import FailedPrecondition
from winnow.home import holds_data


class Service(StrEnum):
    ALL = "all"
    GATEWAY = "gateway"
    FEATURE = "feature"
    RETRIEVAL = "retrieval"
    RANKING = "ranking"
    EXPLANATION = "explanation"


class Level(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def serve(
    service: Annotated[Service, typer.Argument(help="Which: all in one process, or one.")] = Service.ALL,
    data: Data = "ml-100k",
    home: HomeOption = None,
    log_level: Annotated[
        Level, typer.Option("--log-level", case_sensitive=False, help="From where on to log.")
    ] = Level.INFO,
) -> None:
    """Serve a home. Addresses and budgets come from WINNOW_… variables (docs/operating.md)."""
    chosen = home_of(data, home)
    if service in (Service.ALL, Service.FEATURE) and not holds_data(chosen):
        raise FailedPrecondition(f"{chosen} holds no data set; run winnow ingest first")
    import uvloop

    from winnow.serving.telemetry import configure_logging
    from winnow.serving.trace_settings import recorded

    module = import_module("services.__main__" if service is Service.ALL else f"services.{service}.__main__")
    configure_logging(log_level)
    settings = module.Settings(home=chosen)

    async def run() -> None:
        process = await module.process(settings)
        await process.run()

    with recorded(settings, "services" if service is Service.ALL else service):
        uvloop.run(run())
