"""The best entries per row of a sparse table, against the plain reading of a dense one."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from training import cooccurrence
from training.cooccurrence import best


@given(
    n=st.integers(1, 40),
    k=st.integers(1, 50),
    filled=st.floats(0, 1),
    room=st.integers(1, 200),
    seed=st.integers(0, 10_000),
)
def test_the_best_of_a_sparse_table_are_those_of_the_dense_one(
    n: int, k: int, filled: float, room: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    dense = random.integers(-1, 4, (n, n)).astype(np.float32) * (random.random((n, n)) < filled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "CHUNK_CELLS", room)
        rows, scores = best(sp.csr_matrix(dense), k)
    order = np.argsort(-dense, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(dense, order, 1)
    assert rows.tolist() == np.where(found > 0, order, -1).tolist()
    assert scores.tolist() == np.maximum(found, 0).tolist()
