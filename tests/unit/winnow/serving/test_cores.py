"""A product of a serving process takes one core, and none goes on looking for work after it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, os, time
import numpy as np
from threadpoolctl import threadpool_info
from winnow.serving.process import Process

vectors, query = np.ones((100_000, 128), np.float32), np.ones(128, np.float32)

def spent() -> tuple[float, float]:
    "Of a few products with pauses between: CPU of this thread, and of others."
    all_s, own_s = time.process_time(), time.thread_time()
    for _ in range(10):
        vectors @ query
        time.sleep(0.02)
    own_s = time.thread_time() - own_s
    return own_s, time.process_time() - all_s - own_s

found = []

async def until() -> None:
    found.extend((threadpool_info(), *spent()))

asyncio.run(Process([], "127.0.0.1:0").run(until))
libraries, own_s, other_s = found
assert {one["num_threads"] for one in libraries if one["user_api"] == "blas"} == {1}, libraries
assert other_s < own_s / 2, (own_s, other_s)
"""


def test_a_product_takes_one_core() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
