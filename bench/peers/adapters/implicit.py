"""implicit 0.7: alternating least squares (Hu, Koren and Volinsky 2008), by its defaults but for the number of factors."""

from __future__ import annotations

import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from bench.peers.driver import WANTED, Data, Ints

FACTORS = 64


class Als:
    def fit(self, data: Data) -> None:
        ones = np.ones(len(data.items), np.float32)
        self._seen = csr_matrix((ones, (data.users(), data.items)), shape=(data.n_users, data.n_items))
        self._model = AlternatingLeastSquares(factors=FACTORS, random_state=0, num_threads=1)
        self._model.fit(self._seen, show_progress=False)

    def one(self, user: int) -> Ints:
        ids, _ = self._model.recommend(user, self._seen[user], N=WANTED)
        return np.asarray(ids, np.int64)

    def many(self, users: Ints) -> object:
        return self._model.recommend(users, self._seen[users], N=WANTED)


MODELS = {"als": Als}
