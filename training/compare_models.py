"""How good the models are by themselves, beside each other: `python -m training.compare_models HOME --models als,ease`.

Each is fitted on everything but the test part of the data set's own protocol and ranks the whole catalogue for it. No
platform, no ranker: `winnow evaluate` measures those. Seconds are of this process's CPU time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.dataset import Dataset, load
from training.models.catalogue import CATALOGUE
from training.questions import questions
from training.split import split
from training.train_model import fitted, measured


def compared(
    dataset: Dataset, names: list[str], settings: Mapping[str, Any] | None = None, people: int = 0, seed: int = 0
) -> Iterator[tuple[str, dict[str, float]]]:
    """Per model its metrics on the test part, `fit_s` and `rank_s`; with at most `people` questions (0: all)."""
    parts = split(dataset, "evaluate")
    asked = questions(dataset, parts, people)
    for name in names:
        began = time.process_time()
        model = fitted(dataset, ~parts.test, name, settings, seed)
        learnt = time.process_time()
        found = measured(model, asked, seed)
        seconds = {"fit_s": learnt - began, "rank_s": time.process_time() - learnt}
        yield name, found | {key: round(value, 1) for key, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="How good the models are by themselves.")
    parser.add_argument("home", type=Path, help="a home that winnow ingest made")
    parser.add_argument("--models", default=",".join(CATALOGUE), help="names, separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of all of them")
    parser.add_argument("--people", type=int, default=0, help="questions at most; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    settings = dict(one.split("=", 1) for one in chosen.set)
    for name, found in compared(load(chosen.home), chosen.models.split(","), settings, chosen.people, chosen.seed):
        print(json.dumps({"model": name, **settings, **found}), flush=True)


if __name__ == "__main__":
    main()
