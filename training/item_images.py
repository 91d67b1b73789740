"""The vectors of a data set's images as a training reads them: one width, which most of them have.

A vector of another width counts as missing, and how many do is said: they come of another model, and nothing relates
their numbers to the others'. Knows no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from winnow.image_vectors import Floats, Halves, matrix, widths
from winnow.types import Item


@dataclass(frozen=True, eq=False)
class ItemImages:
    """`vectors` (N, W) by item row, zeros where there is none; `other_width` have one that is not used."""

    vectors: Halves
    other_width: int

    @classmethod
    def of(cls, items: Sequence[Item]) -> Self | None:
        """None where no item has a vector. Of widths that are equally common, the larger one."""
        kept = [item.image_vector for item in items]
        found = widths(kept)
        if not found:
            return None
        width = max(found, key=lambda width: (found[width], width))
        return cls(matrix(kept, width), found.total() - found[width])

    @classmethod
    def at(cls, items: Sequence[Item], width: int) -> Self:
        """With the width of an older training."""
        kept = [item.image_vector for item in items]
        return cls(matrix(kept, width), sum(n for other, n in widths(kept).items() if other != width))

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def present(self) -> int:
        return int(self.vectors.any(axis=1).sum())

    def facts(self) -> dict[str, int]:
        """What a bundle says of them (docs/bundles.md)."""
        return {"width": self.width, "items": self.present, "other_width": self.other_width}

    def centre(self) -> Floats:
        """(W,) the mean of where they point. Vectors of photographs all point much the same way; what tells them apart is
        how they differ from it."""
        here = self.vectors[self.vectors.any(axis=1)].astype(np.float32)
        mean: Floats = (here / np.linalg.norm(here, axis=1, keepdims=True)).mean(axis=0)
        return mean

    def samples(self, n: int) -> Floats:
        """(n, W) to try a tower on: every other one of the first that there are, zeros between them."""
        found = np.zeros((n, self.width), np.float32)
        here = self.vectors[self.vectors.any(axis=1)][: len(found[::2])]
        found[::2][: len(here)] = here
        return found


def said(images: Mapping[str, Any], items: int) -> str:
    """The facts in words, of so many items."""
    others = images["other_width"]
    unused = f"; {others} of another width count as missing" if others else ""
    return f"{images['items']} of {items} items have an image vector of {images['width']} numbers{unused}"
