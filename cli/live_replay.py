"""`winnow replay --live`: two platforms are played, one after the other, and held against each other.

Both are given the same past and asked the same questions; a platform that was played is not played again, and of one that was ended
before its time the months that it has answered count. Only one of
them need be played here: another machine, or another process, may play the other into the same folder.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.progress import Progress

from cli.baskets import Log
from cli.ingest import ingested
from cli.replay import Run
from cli.replay_arm import Arm, Play, figures_of, sampled
from cli.replay_arm import played as arm_played
from cli.skew import begun
from cli.stamps import Done, Stamps, code, key_of

if TYPE_CHECKING:
    from training.replay import Month

ARMS = ("retrained", "never")


@dataclass(frozen=True, slots=True)
class Platforms:
    """Which arms are played, with which parts, and how many people are asked about a month (0: all)."""

    arms: tuple[str, ...]
    parts: tuple[str, ...]
    people: int

    @classmethod
    def named(cls, arm: str, without: str, people: int) -> Self:
        """As the command's options say; typer.BadParameter names the one that is wrong."""
        from parts.stack import PARTS

        if arm and arm not in ARMS:
            raise typer.BadParameter(f"one of {', '.join(ARMS)}", param_hint="--arm")
        left_out = {name.strip() for name in without.split(",") if name.strip()}
        if unknown := left_out - {*PARTS}:
            said = f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}"
            raise typer.BadParameter(said, param_hint="--without")
        return cls((arm,) if arm else ARMS, tuple(name for name in PARTS if name not in left_out), people)


def played(
    data: str, folder: Path, preset: str, seed: int, first: str, most: int, platforms: Platforms, progress: Progress
) -> dict[str, Any]:
    """As `cli.replay.played`; no figures by month while an arm is missing."""
    from training.past import Past
    from training.replay import Month, asked_in, months, overall

    summary = ingested(data, folder / "whole", progress, replace=True)
    past = Past(folder / "whole")
    chosen = months(past.whole, Month.named(first) if first else None, most)
    asked = {month: sampled(asked_in(past.whole, month), platforms.people, seed) for month in chosen}
    play = Play(past, Log(folder / "whole"), asked, preset, seed)
    run = Run(past, folder, summary.digest, preset, seed, chosen[0])
    key = key_of(summary.digest, str(chosen[0]), platforms.people, preset, seed, platforms.parts, code())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is then stopped
    stamps = Stamps(folder / "live")
    for name in platforms.arms:

        def keep(found: dict[str, Any], name: str = name) -> None:
            stamps.keep(Done(name, key, found, found["seconds"]))

        stamps.once(name, key, partial(arm, name, play, run, platforms, keep, progress), partial(covers, chosen))
    known = {name: stamps.read(name) for name in ARMS}
    done = {
        name: found.result
        for name, found in known.items()
        if found and found.key == key and covers(chosen, found.result)
    }
    told = {name: {key: value for key, value in found.items() if key != "months"} for name, found in done.items()}
    document = {"data": summary.name, "preset": preset, "seed": seed, "parts": platforms.parts, "live": told}
    if len(done) < len(ARMS):
        return document
    rows = figures_of(play, done)
    seconds = sum(found["seconds"] for found in done.values())
    return {**document, "months": rows, "overall": overall(rows), "seconds": seconds}


def covers(chosen: Sequence[Month], result: Mapping[str, Any]) -> bool:
    """An arm was played through these months."""
    return {*map(str, chosen)} <= {*result["months"]}


def arm(
    name: str, play: Play, run: Run, platforms: Platforms, keep: Callable[[dict[str, Any]], None], progress: Progress
) -> dict[str, Any]:
    """One platform, from a home made anew to what it answered; `keep` is given what there is after every month."""
    month = play.months[0]
    models = run.trained(month, play.past.until(month.start), progress)
    folder = run.folder / "live" / name
    home = begun(play.past, play.log, run.folder / "whole", folder / "home", month, models)
    say: Callable[[str], None] = partial(progress.console.print, highlight=False)
    return arm_played(play, Arm(name), home, folder / "up", platforms.parts, keep, say).document()
