"""The question that everybody is asked, cut from a data set by leave-one-out, and how answers to it are judged.

The last act of everyone with more than two is held out. Peers get the rest as rows of integers (`Data`); Winnow gets it
as a folder that anybody could ingest, titles and times with it. Nobody who is asked sees what was held out.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.peers.driver import WANTED, Data, Ints
from training.data.clean import time
from training.data.source import Source
from winnow.errors import InvalidArgument

LEAST = 3  # acts of a person that is asked for
DISCOUNTS = 1.0 / np.log2(np.arange(WANTED) + 2.0)


@dataclass(frozen=True, eq=False)
class Question:
    """`data` is what may be known, `answers` (q,) the item that each person who is asked for chose next."""

    data: Data
    answers: Ints
    user_ids: tuple[str, ...]  # (p,)
    item_ids: tuple[str, ...]  # (N,)
    folder: Path  # data.npz, and events, items and users as Parquet


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault` is empty when every answer holds ten different unseen items; then NDCG@10 and its standard error count."""

    fault: str
    ndcg: float = math.nan
    error: float = math.nan


def question(source: Source, folder: Path, people: int, seed: int = 0) -> Question:
    """Cut `source` and write both forms into `folder`; at most `people` are asked for, drawn by the seed."""
    events = pl.concat(list(source.events()))
    items, users = pl.concat(list(source.items())), pl.concat(list(source.users()))
    item_ids = tuple(pl.concat([items["item_id"], events["item_id"]]).unique(maintain_order=True))
    user_ids = tuple(events["user_id"].unique(maintain_order=True))
    events = events.with_columns(time(events, "occurred_at")).sort("occurred_at", "row")
    codes = events.select(
        user=pl.col("user_id").replace_strict(user_ids, range(len(user_ids)), return_dtype=pl.Int64),
        item=pl.col("item_id").replace_strict(item_ids, range(len(item_ids)), return_dtype=pl.Int64),
    ).with_row_index("n")
    last = codes.with_columns(acts=pl.len().over("user")).filter(pl.col("acts") >= LEAST).group_by("user").last()
    if last.is_empty():
        raise InvalidArgument(f"{source.name}: nobody has {LEAST} acts", field="source")
    drawn = last.sort("user").sample(min(people, last.height), seed=seed)
    known = codes.join(last, on="n", how="anti").sort("user", maintain_order=True)
    counts = np.bincount(known["user"].to_numpy(), minlength=len(user_ids))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    data = Data(known["item"].to_numpy(), starts, len(item_ids), drawn["user"].to_numpy())
    folder.mkdir(parents=True, exist_ok=True)
    data.write(folder)
    write_tables(source, folder, events.with_row_index("n").join(last, on="n", how="anti"), items, users)
    return Question(data, drawn["item"].to_numpy(), user_ids, item_ids, folder)


def write_tables(source: Source, folder: Path, events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame) -> None:
    """What `winnow ingest FOLDER` reads (`training.data.folder`)."""
    events.sort("n").drop("n", "row").write_parquet(folder / "events.parquet")
    items.drop("row").write_parquet(folder / "items.parquet")
    users.drop("row").write_parquet(folder / "users.parquet")
    about = {"name": f'"{source.name}-past"', "clock": f'"{source.clock}"', "protocol": f'"{source.protocol}"'}
    about["positive_value"] = str(source.positive_value)
    text = "\n".join(["[dataset]", *(f"{name} = {value}" for name, value in about.items())])
    (folder / "columns.toml").write_text(text + "\n", encoding="utf-8")


def judged(asked: Question, answers: npt.NDArray[np.int64]) -> Verdict:
    """`answers` are (q, 10) item rows, best first; -1 where there was none."""
    data = asked.data
    if answers.shape != (len(data.asked), WANTED) or answers.dtype != np.int64:
        return Verdict(f"answers are {answers.dtype} of shape {answers.shape}")
    wrong = Counter(
        fault for user, row in zip(data.asked, answers, strict=True) if (fault := wrong_with(data, user, row))
    )
    if wrong:
        [(fault, times)] = wrong.most_common(1)
        return Verdict(f"{times} of {len(answers)} answers: {fault}")
    gains = ((answers == asked.answers[:, None]) * DISCOUNTS).sum(axis=1)
    return Verdict("", float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains))) if len(gains) > 1 else 0.0)


def wrong_with(data: Data, user: int, answer: Ints) -> str:
    if (answer < 0).any() or (answer >= data.n_items).any():
        return "not ten items of the catalogue"
    if len(np.unique(answer)) < WANTED:
        return "an item twice"
    return "an item that the person has seen" if np.isin(answer, data.of(user)).any() else ""
