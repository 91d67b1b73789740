"""A small index of every kind over the same vectors, as tests want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pytest

from services.retrieval.indexes import VectorIndex
from services.retrieval.indexes.device import DeviceIndex, missing_device
from services.retrieval.indexes.exact import ExactIndex
from services.retrieval.indexes.flat import FlatIndex
from services.retrieval.indexes.milvus import MilvusIndex, connected
from services.retrieval.indexes.stored import read_index
from training.vector_index import KINDS, built, filled, saved
from winnow.catalogue import Rows
from winnow.types import Floats

EVERY = ("exact", *KINDS, "gpu", "device", "milvus")
"""`gpu` is a card's, `device` the same logic over something else that knows no filters."""

EXACT = {"exact", "flat", "gpu", "device"}
"""Kinds whose answers are those of a search by brute force."""

CLOSE = {"fp16": 1e-3, "sq8": 0.02, "ivf_sq8": 0.02, "hnsw_sq8": 0.02, "ivf_pq": 0.05}
"""How far a score may be from the inner product; 1e-5 for the others."""

Make = Callable[[str, Floats], VectorIndex]


def unit(n: int, seed: int, dim: int = 32) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nothing(b: int) -> list[Rows]:
    return [np.empty(0, np.int64)] * b


@contextmanager
def maker() -> Iterator[Make]:
    """Makes indexes of any kind, all in one folder and, where they need it, one embedded Milvus."""
    with TemporaryDirectory() as folder:
        client = None

        def make(kind: str, vectors: Floats) -> VectorIndex:
            nonlocal client
            if kind == "exact":
                return ExactIndex(vectors)
            if kind == "milvus":
                client = client or connected(f"{folder}/milvus.db")
                return MilvusIndex(client, vectors)
            if kind == "device":
                return DeviceIndex(FlatIndex(filled("flat", vectors)), filled("flat", vectors))
            file = Path(folder) / "index.faiss"
            if kind == "gpu":
                if reason := missing_device():
                    pytest.skip(f"FAISS on a GPU: {reason}")
                saved(filled("flat", vectors), file)
                return read_index(file, vectors, gpu=True)
            made, _ = built(kind, vectors, vectors[:20], 20)
            if (cells := faiss.try_extract_index_ivf(made)) is not None:
                cells.nprobe = cells.nlist // 2  # so that some are left for searches that find too little
            saved(made, file)
            return read_index(file, vectors)

        yield make
        if client is not None:
            client.close()
            from milvus_lite import server_manager_instance

            server_manager_instance.release_server(f"{folder}/milvus.db")
