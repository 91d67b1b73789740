"""How the libraries that fit a model tell their progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


def ticks(progress: Progress | None, title: str, total: int) -> Callable[..., None]:
    """To be called after each of `total` rounds, with whatever the library says of it."""
    if progress is None:
        return lambda *_: None
    task = progress.add_task(title, total=total)

    def tick(*_: Any) -> None:
        progress.advance(task)

    return tick
