"""Winnow's own simple models, asked the way the peers are: no service, no features, no ranker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.peers.driver import WANTED, Data, Ints
from training.baselines import BASELINES
from training.models.contract import Interactions, Model

Scores = npt.NDArray[np.float64]


class Scoring(Protocol):
    """What a baseline and a model of the contract have in common."""

    def scores(self, histories: Sequence[Ints]) -> Scores: ...


class Own:
    """Ten of the highest scores, what a history holds left out. `fit` gives a fitted model."""

    def __init__(self, fit: Callable[[Data], Scoring]) -> None:
        self._fit = fit

    def fit(self, data: Data) -> None:
        self._data, self._model = data, self._fit(data)

    def one(self, user: int) -> Ints:
        answer: Ints = self.many(np.array([user]))[0]
        return answer

    def many(self, users: Ints) -> Ints:
        histories = [self._data.of(int(user)) for user in users]
        scores = self._model.scores(histories)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        top = np.argpartition(-scores, WANTED, axis=1)[:, :WANTED]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
        return np.take_along_axis(top, order, axis=1)


def baseline(name: str) -> Own:
    return Own(lambda data: BASELINES[name]().fit(data.items, data.starts, data.n_items))


def model(module: str, name: str) -> Own:
    """A model of the contract, by its defaults."""

    def fit(data: Data) -> Model:
        nothing = np.full(len(data.items), np.nan, np.float32)
        acts = Interactions(
            data.items, data.starts, data.n_items, nothing, np.arange(len(data.items), dtype=np.float64)
        )
        made: Model = getattr(import_module(module), name)()
        return made.fit(acts)

    return Own(fit)


MODELS: dict[str, Callable[[], Own]] = {
    "markov": lambda: baseline("markov1"),
    "ease": lambda: baseline("ease"),
    "als": lambda: model("training.models.als", "Als"),
}
