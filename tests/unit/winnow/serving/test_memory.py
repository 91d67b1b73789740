"""A full collection looks at an object once, and garbage is still found."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, time, weakref
from winnow.serving.memory import tune

class Node: ...

def walk() -> float:
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began

tune(); tune()
assert sum("freeze_survivors" in repr(one) for one in gc.callbacks) == 1
lasting = [[n] for n in range(2_000_000)]
first, later = walk(), min(walk() for _ in range(5))
assert later < first / 5, (first, later)
node = Node(); node.own = node; seen = weakref.ref(node); del node
gc.collect()
assert seen() is None, "a cycle that came after the last collection is garbage as ever"
"""


def test_what_lasts_is_walked_once_and_new_cycles_are_collected() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
