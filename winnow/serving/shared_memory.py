"""Inputs of a model by shared memory, where client and Triton share a machine and a user.

Inputs are what is large (500 candidates of a ranking: over a megabyte); outputs are hundreds of times smaller and come
back in the answer. A region is written by one call at a time and used again; there are few, of limited size, and a
call that finds none sends its inputs by value.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow.errors import DeadlineExceeded, Unavailable, WinnowError
from winnow.inference import Arrays
from winnow.serving.triton import RegionUnknown, TritonModel, TritonServer, described, left

ALIGNED = 64  # bytes: a cache line
SMALLEST = 4 * 2**20
LARGEST = 64 * 2**20
MOST = 8  # regions
REST_S = 5.0  # a region whose call was given up may still be read for a while


class Region:
    """Shared memory that the server knows under `name`. OSError when the memory cannot be had."""

    def __init__(self, size: int) -> None:
        self._memory = SharedMemory(create=True, size=size)
        self.name = self._memory.name
        self.size = size
        self.known = False  # by the server
        self.rests_until = 0.0
        try:
            reserve(self._memory.name, size)
        except OSError:
            self.free()
            raise

    @property
    def key(self) -> str:
        return f"/{self.name}"

    def put(self, inputs: Arrays) -> list[Any]:
        """Copy the inputs in, one after the other, and name their places."""
        tensors, start = [], 0
        for name, values in inputs.items():
            tensor = described(name, values)
            place: npt.NDArray[Any] = np.ndarray(values.shape, values.dtype, self._memory.buf, start)
            np.copyto(place, values)
            tensor.set_shared_memory(self.name, values.nbytes, start)
            tensors.append(tensor)
            start += aligned(values.nbytes)
        return tensors

    def free(self) -> None:
        self._memory.close()
        with suppress(FileNotFoundError):
            self._memory.unlink()


def reserve(name: str, size: int) -> None:
    """Memory that is only promised kills the process that writes to it when there is none."""
    file = os.open(f"/dev/shm/{name}", os.O_RDWR)  # noqa: S108
    try:
        os.posix_fallocate(file, 0, size)
    finally:
        os.close(file)


def aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def room_for(inputs: Arrays) -> int:
    return sum(aligned(values.nbytes) for values in inputs.values())


class Regions:
    """The regions of one server's clients in this process. Thread-safe."""

    def __init__(self, server: TritonServer, *, most: int = MOST, largest: int = LARGEST) -> None:
        self._server = server
        self._most = most
        self._largest = largest
        self._lock = threading.Lock()
        self._free: list[Region] = []
        self._made = 0
        self._closed = False

    @contextmanager
    def region(self, size: int) -> Iterator[Region | None]:
        """A region of that size at least for one call, or None. It rests when the call may still be going on."""
        region = self._take(size)
        try:
            yield region
        except (DeadlineExceeded, Unavailable):
            if region is not None:
                region.rests_until = time.monotonic() + REST_S
            raise
        finally:
            if region is not None:
                self._give_back(region)

    def introduce(self, region: Region, timeout_s: float) -> None:
        """Tell the server, where it does not know it."""
        if not region.known:
            self._server.register(region.name, region.key, region.size, timeout_s)
            region.known = True

    def close(self) -> None:
        """Free the memory; what is in use is freed when it comes back."""
        with self._lock:
            self._closed, gone, self._free = True, self._free, []
        for region in gone:
            self._end(region)

    def _take(self, size: int) -> Region | None:
        if size > self._largest:
            return None
        with self._lock:
            now = time.monotonic()
            rested = [region for region in self._free if region.rests_until <= now]
            fitting = min((r for r in rested if r.size >= size), key=lambda r: r.size, default=None)
            small = None
            if fitting is not None:
                self._free.remove(fitting)
                return fitting
            if self._made >= self._most:
                if not rested or self._closed:
                    return None
                small = min(rested, key=lambda r: r.size)
                self._free.remove(small)
            else:
                self._made += 1
        if small is not None:
            self._end(small)
        return self._make(min(max(SMALLEST, 1 << (size - 1).bit_length()), self._largest))

    def _make(self, size: int) -> Region | None:
        try:
            return Region(size)
        except OSError:  # no memory: by value, then
            with self._lock:
                self._made -= 1
            return None

    def _give_back(self, region: Region) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(region)
                return
        self._end(region)

    def _end(self, region: Region) -> None:
        with suppress(WinnowError):  # a server that is away has forgotten it anyway
            if region.known:
                self._server.unregister(region.name)
        region.free()


class SharedTritonModel(TritonModel):
    """A model whose inputs travel by shared memory."""

    def __init__(self, server: TritonServer, name: str, regions: Regions, *, timeout_s: float = 1.0) -> None:
        super().__init__(server, name, timeout_s=timeout_s)
        self._regions = regions

    def _ask(self, inputs: Arrays, until: float) -> dict[str, npt.NDArray[Any]]:
        with self._regions.region(room_for(inputs)) as region:
            if region is None:
                return super()._ask(inputs, until)
            tensors = region.put(inputs)
            try:
                self._regions.introduce(region, left(until))
                return self._server.infer(self.name, tensors, left(until))
            except RegionUnknown:  # the server has been restarted since
                region.known = False
                self._regions.introduce(region, left(until))
                return self._server.infer(self.name, tensors, left(until))
