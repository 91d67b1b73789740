"""`winnow replay` with small made-up models in the place of trained ones: a program that a test can kill.

Models follow from what is known when their month begins, and from nothing else. A file `hang` in the replay's folder
makes the training of any month but the first last until somebody ends the program; `hanging` says that it began.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import Progress

from cli import replay
from cli.main import main
from tests.bundles import tiny_ranking_bundle, tiny_retrieval_bundle
from training.dataset import Dataset
from training.replay import Month
from winnow.artifacts import Bundle, Kind

HANG, HANGING = "hang", "hanging"
FOREVER_S = 600


class Tiny(replay.Run):
    def trained(self, month: Month, known: Dataset, progress: Progress) -> dict[Kind, Bundle]:
        if month != self.first and (self.folder / HANG).exists():
            (self.folder / HANGING).touch()
            time.sleep(FOREVER_S)
        bundles: Path = self.folder / str(month) / "bundles"
        seed = int(known.snapshot[:8], 16)
        return {
            "retrieval": tiny_retrieval_bundle(bundles / "retrieval", known.items, seed=seed),
            "ranking": tiny_ranking_bundle(bundles / "ranking", known.items, seed=seed),
        }


if __name__ == "__main__":
    replay.Run = Tiny  # type: ignore[misc]
    main()
