"""How new an item is, by when it was created."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from winnow.types import Floats


def youth(created: npt.NDArray[np.float64], at: float, half_life_s: float) -> Floats:
    """(n,) 1 for what was created at `at` (both in seconds since 1970), halved every `half_life_s` before; 0 for what
    does not say (`created` is 0 or less) or comes later."""
    young = np.exp2(np.minimum(created - at, 0.0) / half_life_s)
    young[(created <= 0) | (created > at)] = 0.0
    return young.astype(np.float32)
