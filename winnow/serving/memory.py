"""Keeps the interpreter from stopping requests: how often threads take turns, and what the collector looks at again.

A catalogue is millions of objects that stay. A full collection that walks all of them holds the interpreter for up to a
second; one that walks what came since the last takes a millisecond.
"""

from __future__ import annotations

import gc
import sys
from typing import Literal

SWITCH_S = 0.0005  # a thread that comes back from a model waits at most this long for one that computes in Python
YOUNG = 10_000  # new objects between looks at them: a request's own die before that
OLDEST = 2


def tune() -> None:
    """Called once, at the start of a serving process; again, it changes nothing."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(YOUNG, 10, 10)
    if freeze_survivors not in gc.callbacks:
        gc.callbacks.append(freeze_survivors)


def freeze_survivors(phase: Literal["start", "stop"], info: dict[str, int]) -> None:
    """What survived a full collection is left alone by the next ones. (Reference counts still free it: only cycles
    among survivors stay, and the tables that bundles leave behind have none.)"""
    if phase == "stop" and info["generation"] == OLDEST:
        gc.freeze()
