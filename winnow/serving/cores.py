"""One core a call: numpy's products do not spread over cores that belong to other requests.

OpenBLAS has a thread for each core of the machine, also of one where a container may take the time of two of sixty-four,
and each looks for more work, in a loop and for tens of milliseconds, after every product that it had a part in. What a process
is to answer at once is spread over requests instead. (FAISS and ONNX Runtime are told the same where they are used.)
"""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_core_a_call() -> None:
    """Called once, at the start of a serving process; holds for what is loaded by then, numpy, as long as it lives."""
    threadpool_limits(1, "blas")
