"""RecTools 0.19: EASE and its wrapping of implicit's ALS. It is made for many people at a time: an answer is a data frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import EASEModel, ImplicitALSWrapperModel

from bench.peers.driver import WANTED, Data, Ints

FACTORS = 64


class Ease:
    def fit(self, data: Data) -> None:
        table = pd.DataFrame({Columns.User: data.users(), Columns.Item: data.items})
        table[Columns.Weight] = 1.0
        table[Columns.Datetime] = pd.Timestamp("2000-01-01")
        self._dataset = Dataset.construct(table)
        self._model = self.made()
        self._model.fit(self._dataset)

    def made(self) -> EASEModel | ImplicitALSWrapperModel:
        return EASEModel(recommend_n_threads=1, recommend_use_gpu_ranking=False)

    def one(self, user: int) -> Ints:
        return np.asarray(self.table([user])[Columns.Item], np.int64)

    def many(self, users: Ints) -> object:
        return self.table(users)

    def table(self, users: list[int] | Ints) -> pd.DataFrame:
        return self._model.recommend(users, self._dataset, k=WANTED, filter_viewed=True)


class Als(Ease):
    def made(self) -> ImplicitALSWrapperModel:
        return ImplicitALSWrapperModel(AlternatingLeastSquares(factors=FACTORS, random_state=0, num_threads=1))


MODELS = {"ease": Ease, "als": Als}
