"""CoreRec 0.6: its EASE (Steck 2019), and the server that it brings."""

from __future__ import annotations

from collections.abc import Sequence

from corerec.engines.classic_cf import EASE
from corerec.serving import ModelServer

from bench.peers.driver import WANTED, Data, Ints


class Ease:
    def fit(self, data: Data) -> None:
        self._model = EASE()
        self._model.fit(data.users().tolist(), data.items.tolist())

    def one(self, user: int) -> Sequence[int]:
        found: Sequence[int] = self._model.recommend(user, top_k=WANTED)
        return found

    def many(self, users: Ints) -> object:
        return [self.one(user) for user in users.tolist()]  # it has no call for many

    def serve(self, port: int) -> None:
        ModelServer(self._model, host="127.0.0.1", port=port).start()


MODELS = {"ease": Ease}
