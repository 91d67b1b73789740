"""`make cluster-check`: lint and every combination, one line each; ends with 1 where anything is wrong."""

from __future__ import annotations

import sys
import time

from cluster.chart import check_all, lint_all
from cluster.schemas import versions
from winnow.errors import WinnowError


def main() -> int:
    began, wrong = time.monotonic(), 0
    for name, refusal in lint_all():
        wrong += bool(refusal)
        say(f"lint --strict, {name}: {refusal or 'fine'}")
    for name, found in check_all():
        wrong += len(found)
        say(f"{name}: {len(found) or 'nothing'} wrong")
        for one in found:
            say(f"  {one}")
    say(
        f"against Kubernetes {', '.join(versions())}, by Helm 3 and 4, in {time.monotonic() - began:.0f} s: {wrong} wrong"
    )
    return 1 if wrong else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WinnowError as missing:
        sys.exit(missing.detail)
