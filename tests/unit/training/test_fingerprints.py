"""Event ids that came before are known by sorted runs of their hashes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.ingest import Fingerprints

prints = st.integers(0, 40) | st.integers(2**64 - 40, 2**64 - 1)


@given(st.lists(st.lists(prints, max_size=12), max_size=20))
def test_it_holds_what_was_added_and_nothing_else(chunks: list[list[int]]) -> None:
    seen, known = Fingerprints(), set[int]()
    for chunk in chunks:
        asked = np.array(chunk, np.uint64)
        assert seen.holds(asked).tolist() == [number in known for number in chunk]
        fresh = sorted(set(chunk) - known, key=lambda number: number % 7)
        seen.add(np.array(fresh, np.uint64))
        known |= set(fresh)


def test_many_small_chunks_make_few_runs() -> None:
    seen, rng = Fingerprints(), np.random.default_rng(0)
    for numbers in np.array_split(rng.permutation(20_000).astype(np.uint64), 400):
        seen.add(numbers)
        assert len(seen._runs) <= math.log2(20_000)
    assert seen.holds(np.arange(20_001, dtype=np.uint64)).tolist() == [True] * 20_000 + [False]
