"""What Winnow's services share: the words, the contracts, and how a stage runs. No business rule of any one service."""

import os

# gRPC reads this once, when it is imported. Its newer poller hands every message through one more thread: a fifth of the CPU
# of a small call (docs/performance.md). gRPC 1.82 and later may not know the name; tests/unit/winnow/serving/test_grpc_poller.py
# says so.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_poller_for_python")
