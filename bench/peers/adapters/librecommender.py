"""LibRecommender 1.5: its ALS by the settings of its own example. The Sanic server of its repository is not in its package,
so it is asked in process."""

from __future__ import annotations

import numpy as np
import pandas as pd
from libreco.algorithms import ALS
from libreco.data import DatasetPure

from bench.peers.driver import WANTED, Data, Ints

FACTORS, REGULARISATION = 64, 5.0


class Als:
    def fit(self, data: Data) -> None:
        table = pd.DataFrame({"user": data.users(), "item": data.items, "label": 1})
        train, about = DatasetPure.build_trainset(table)
        self._model = ALS("ranking", about, embed_size=FACTORS, reg=REGULARISATION, n_threads=1, seed=0)
        self._model.fit(train, neg_sampling=True, verbose=0)

    def one(self, user: int) -> Ints:
        return np.asarray(self._model.recommend_user(user, n_rec=WANTED)[user], np.int64)

    def many(self, users: Ints) -> object:
        return self._model.recommend_user(users.tolist(), n_rec=WANTED)


MODELS = {"als": Als}
