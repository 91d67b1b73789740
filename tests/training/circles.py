"""A world on circles, in which both what goes together and what comes next are visible: for every model of items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tests.training.worlds import START_S, dataset_of
from training.dataset import Dataset
from training.split import Mask
from winnow.features import Ints

CIRCLES, LENGTH, PEOPLE, STEPS = 5, 10, 90, 6
N = CIRCLES * LENGTH


def circle_world(home: Path, seed: int = 0) -> Dataset:
    """Items lie on circles. A person starts somewhere on one, the first circles more often, and goes round it, an act
    after the other: what comes next is the next item of the circle, and no other circle has anything to do with it."""
    rng = np.random.default_rng(seed)
    circle = rng.choice(CIRCLES, PEOPLE, p=np.arange(CIRCLES, 0, -1) / (CIRCLES * (CIRCLES + 1) / 2))
    walks = circle[:, None] * LENGTH + (rng.integers(LENGTH, size=(PEOPLE, 1)) + np.arange(STEPS)) % LENGTH
    person, step = np.divmod(np.arange(walks.size), STEPS)
    events = pl.DataFrame(
        {
            "event_id": [f"e{n}" for n in range(walks.size)],
            "type": "click",
            "user_id": [f"u{n}" for n in person],
            "item_id": [f"i{n}" for n in walks.ravel()],
            "occurred_at": START_S + 60.0 * (step * PEOPLE + person),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(N)],
            "title": [f"Stop {n % LENGTH}" for n in range(N)],
            "categories": [[f"circle {n // LENGTH}"] for n in range(N)],
        }
    )
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(PEOPLE)], "traits.gender": "f"})
    return dataset_of(home, events, items, users)


def walk(start: int, steps: int) -> Ints:
    """Rows of a walk from an item, in the rows of a catalogue whose items are in the order of their numbers."""
    return start - start % LENGTH + (start % LENGTH + np.arange(steps)) % LENGTH


def everything(dataset: Dataset) -> Mask:
    return np.ones(len(dataset.acts), np.bool_)


WALKS = [walk(start, 4) for start in range(N)]
EXPECTED = np.array([walk(start, 5)[-1] for start in range(N)])
