"""A home whose retrieval can be refreshed without training anything: towers that learnt nothing, tables that count."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from tests.bundles import tiny_retrieval_bundle
from tests.training.worlds import START_S
from training.dataset import Dataset
from training.refresh import made_again
from training.retrieval_tables import settle
from training.split import Split
from winnow.artifacts import REFRESH_OF, Bundle, seal
from winnow.canonical import EVENTS, ITEMS, event_row, item_row
from winnow.eventlog import Log
from winnow.home import events_folder, items_folder
from winnow.types import Event, EventType, Item


def trained(dataset: Dataset, parts: Split, path: Path, seed: int = 0) -> Bundle:
    """A retrieval bundle as a training leaves it: tables of the training part, and no word of a refresh."""
    towers = tiny_retrieval_bundle(path / f"tiny-{seed}", dataset.items, seed=seed)
    made = made_again(towers, dataset, parts.train, path)
    data = {name: value for name, value in made.data.items() if name != REFRESH_OF}
    return settle(seal(made.path, "retrieval", facts=made.facts, metrics=made.metrics, data=data), path)


def append(home: Path, events: list[Event], items: list[Item]) -> None:
    """As the feature service would."""

    async def write() -> None:
        for folder, schema, rows in (
            (events_folder(home), EVENTS, [event_row(event) for event in events]),
            (items_folder(home), ITEMS, [item_row(item) for item in items]),
        ):
            log = Log(folder, schema)
            if rows:
                await log.append(rows)
            await log.close()

    asyncio.run(write())


def clicks(n: int, second: float, item_id: str = "brand-new") -> list[Event]:
    """Of n people, a minute apart: first something known, then the item."""
    found = []
    for person in range(n):
        for step, which in enumerate(("i1", item_id)):
            when = datetime.fromtimestamp(START_S + second + 60 * person + step, UTC)
            found.append(Event(f"live-{item_id}-{second}-{person}-{step}", EventType.CLICK, which, when, f"u{person}"))
    return found
