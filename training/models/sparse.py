"""A fixed sparse matrix that dense ones are multiplied with, forth and back, without a conversion in any step."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn


class Spread(nn.Module):
    """(n, m) values between n rows and m columns, say people and items; not trained and not saved."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        super().__init__()
        self.shape = tuple(matrix.shape)
        for name, one in (("rows", matrix.tocsr()), ("columns", matrix.T.tocsr())):
            one.sort_indices()
            self.register_buffer(f"{name}_starts", torch.from_numpy(one.indptr.astype("int64")), persistent=False)
            self.register_buffer(f"{name}_at", torch.from_numpy(one.indices.astype("int64")), persistent=False)
            self.register_buffer(f"{name}_values", torch.from_numpy(one.data.astype("float32")), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(m, d) → (n, d): each row's sum over its columns."""
        return Product.apply(self._by("rows", self.shape), self._by("columns", self.shape[::-1]), x)

    def back(self, x: Tensor) -> Tensor:
        """(n, d) → (m, d): each column's sum over its rows."""
        return Product.apply(self._by("columns", self.shape[::-1]), self._by("rows", self.shape), x)

    def _by(self, name: str, shape: tuple[int, ...]) -> Tensor:
        parts = (getattr(self, f"{name}_{part}") for part in ("starts", "at", "values"))
        return torch.sparse_csr_tensor(*parts, shape, check_invariants=False)


class Product(torch.autograd.Function):
    """A sparse matrix times a dense one; the gradient is the product with the transposed, which is given."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, x: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradient.contiguous()
