"""Winnow's own simple models, asked the way the peers are: no service, no features, no ranker."""

from __future__ import annotations

import numpy as np

from bench.peers.driver import WANTED, Data, Ints
from training.baselines import Ease as EaseBaseline


class Ease:
    def fit(self, data: Data) -> None:
        self._data = data
        self._model = EaseBaseline().fit(data.items, data.starts, data.n_items)

    def one(self, user: int) -> Ints:
        return self.many(np.array([user]))[0]

    def many(self, users: Ints) -> Ints:
        histories = [self._data.of(int(user)) for user in users]
        scores = self._model.scores(histories)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        top = np.argpartition(-scores, WANTED, axis=1)[:, :WANTED]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
        return np.take_along_axis(top, order, axis=1)


MODELS = {"ease": Ease}
