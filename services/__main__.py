"""All five services in one process."""

from __future__ import annotations

from services.all import Platform, Settings
from winnow.serving.process import Process, start


async def process(settings: Settings) -> Process:
    return Platform(settings).process()


if __name__ == "__main__":
    start("Winnow in one process: REST and gRPC, and the four inner services behind them.", Settings, process)
