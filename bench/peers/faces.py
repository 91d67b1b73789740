"""How a peer's server is asked: the faces of `bench.faces` for those that are not Winnow."""

from __future__ import annotations

import orjson

from bench.faces import Reply, RestFace, fault_of


class CoreRecFace(RestFace):
    """`POST /recommend` of CoreRec's model server."""

    path = "/recommend"

    def _body(self, user_id: str) -> bytes:
        return orjson.dumps({"user_id": int(user_id), "top_k": self._items})

    def _read(self, body: bytes) -> Reply:
        ids = [str(item) for item in orjson.loads(body)["recommendations"]]
        return Reply(fault_of(ids, self._items, ()))
