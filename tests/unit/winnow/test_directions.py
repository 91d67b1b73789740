"""Where vectors point, in bytes: cosines stay what they were, and what has no direction says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.directions import LARGEST, packed, unpacked


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([2, 8, 128]), st.floats(1e-6, 1e6))
def test_cosines_are_kept_whatever_the_lengths(seed: int, n: int, dim: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    exact = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    made = packed((vectors * length).astype(np.float32))
    again = unpacked(made)
    assert (made.dtype, again.dtype) == (np.int8, np.float32)
    assert (np.abs(made).max(axis=1) == LARGEST).all()
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(again @ again.T, exact @ exact.T, atol=0.01)


def test_what_points_nowhere_stays_unknown() -> None:
    vectors = np.array([[0, 0, 0], [3, 0, -4], [1e-39, 0, 0]], np.float32)
    made = packed(vectors)
    np.testing.assert_array_equal(made, [[0, 0, 0], [95, 0, -127], [0, 0, 0]])
    np.testing.assert_allclose(unpacked(made), [[0, 0, 0], [0.6, 0, -0.8], [0, 0, 0]], atol=0.01)


@pytest.mark.parametrize("shape", [(0, 4), (3, 1), (0, 1)])
def test_nothing_and_vectors_of_one_number_say_nothing(shape: tuple[int, int]) -> None:
    made = packed(np.ones(shape, np.float32))
    assert made.shape == shape
    assert not made.any()
    assert not unpacked(made).any()
