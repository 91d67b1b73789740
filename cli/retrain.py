"""`winnow retrain`: one whole turn of the loop, from the log to the alias.

What the log holds when the turn begins is what it learns from, however long it takes and however often it is killed: a
note beside the checkpoints keeps the extent, so a turn that is begun again goes on where it was and ends with the same
bundles. Both models are trained and judged before either serves, so that the ranker follows its retrieval at once.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from cli.console import bars
from cli.gate import PROMOTED, VERDICT, Worse, entered, judged, take_over
from cli.homes import AsJson, Data, HomeOption, Index, home_of
from cli.models import Workshop, champion_bundle, check_preset, registry_of
from cli.promote import Uri
from cli.train import Preset, Seed
from cli.turns import Exit, told, turn
from winnow.artifacts import REFRESH_OF, Bundle
from winnow.registry import MlflowRegistry, Version

if TYPE_CHECKING:
    from training.dataset import Extent

UNFINISHED = "retrain.json"
STALE_H = 24.0  # an unfinished turn older than that is begun anew: what it would learn is yesterday's


class Only(StrEnum):
    BOTH = "both"
    RETRIEVAL = "retrieval"
    RANKING = "ranking"


OnlyOption = Annotated[Only, typer.Option("--only", help="ranking: over the retrieval that serves.")]
Promote = Annotated[bool, typer.Option(help="Let what is not worse serve; else it waits as the challenger.")]


@dataclass(frozen=True, slots=True)
class Judged:
    """One challenger: `outcome` is `passed`, `refused` or `unchanged`."""

    bundle: Bundle
    version: Version
    outcome: str
    words: str


@dataclass
class Turn:
    """One turn and how far it is."""

    workshop: Workshop
    registry: MlflowRegistry
    only: Only
    promote: bool
    seconds: dict[str, float] = field(default_factory=dict)
    done: list[Judged] = field(default_factory=list)

    def timed(self, what: str, began: float) -> None:
        self.seconds[what] = round(time.monotonic() - began, 2)

    @property
    def waiting(self) -> list[Judged]:
        return [one for one in self.done if one.outcome == "passed"]

    @property
    def status(self) -> Exit:
        return Exit.REFUSED if any(one.outcome == "refused" for one in self.done) else Exit.DONE


def retrain(
    data: Data = "ml-100k",
    home: HomeOption = None,
    only: OnlyOption = Only.BOTH,
    preset: Preset = "quick",
    seed: Seed = 0,
    promote: Promote = True,
    mlflow: Uri = "",
    index: Index = "auto",
    as_json: AsJson = False,
) -> None:
    """Train on the log as it is now, judge, and promote what is not worse. Exits with 3 when a challenger is worse than
    the champion, with 4 when another job works in this home."""
    folder = home_of(data, home)
    check_preset(preset)
    with turn(folder, "retrain"):
        workshop = Workshop(folder, "", preset=preset, seed=seed, index=index)
        workshop.extent, resumed = begun(folder, only, preset, seed)
        one = Turn(workshop, registry_of(folder, mlflow), only, promote)
        began = time.monotonic()
        with bars(disable=as_json) as progress:
            run(one, progress)
        one.timed("total", began)
        (folder / "training" / UNFINISHED).unlink(missing_ok=True)
    told("retrained", document(one, resumed), one.status, as_json)


def begun(home: Path, only: Only, preset: str, seed: int) -> tuple[Extent, bool]:
    """What this turn reads, and whether it goes on with one that was killed."""
    from training.dataset import Extent, extent_of

    file = home / "training" / UNFINISHED
    plan = {"only": only.value, "preset": preset, "seed": seed}
    try:
        noted = json.loads(file.read_text("utf-8"))
        if noted["plan"] == plan and time.time() - noted["began"] < STALE_H * 3_600:
            return Extent(**noted["extent"]), True
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or one of another release
    extent = extent_of(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps({"plan": plan, "began": time.time(), "extent": asdict(extent)}), "utf-8")
    beside.replace(file)
    return extent, False


def run(one: Turn, progress: Progress) -> None:
    """Train, judge, and only then promote."""
    workshop = one.workshop
    began = time.monotonic()
    workshop.content = workshop.dataset.snapshot
    one.timed("read", began)
    over = None
    if one.only is not Only.RANKING:
        began = time.monotonic()
        made = workshop.retrieval(progress)
        one.timed("train_retrieval", began)
        over = made if judge(one, made).outcome == "passed" else None
    if one.only is not Only.RETRIEVAL:
        rank(one, over or champion_bundle(one.registry, "retrieval"), progress)
    if one.promote:
        for passed in one.waiting:
            take_over(one.registry, passed.version)


def rank(one: Turn, over: Bundle, progress: Progress) -> None:
    """The ranker over what this retrieval would have shown."""
    began = time.monotonic()
    shown = one.workshop.impressions(over, progress)
    one.timed("impressions", began)
    began = time.monotonic()
    made = one.workshop.ranking(over, shown, progress)
    one.timed("train_ranking", began)
    judge(one, made, over)


def judge(one: Turn, bundle: Bundle, over: Bundle | None = None) -> Judged:
    """Register as the challenger and hold it against the champion. What served before is left as it is: whoever moved
    the alias since meant it."""
    began = time.monotonic()
    version = next((v for v in one.registry.versions(bundle.kind) if v.bundle == bundle.id), None)
    if version is not None and (PROMOTED in one.registry.notes(version) or serves(one.registry, bundle)):
        found = Judged(bundle, version, "unchanged", "nothing new was learnt")
    else:
        version = entered(one.workshop, one.registry, bundle)
        found = verdict(one, bundle, version, over)
    one.timed(f"judge_{bundle.kind}", began)
    one.done.append(found)
    return found


def verdict(one: Turn, bundle: Bundle, version: Version, over: Bundle | None) -> Judged:
    try:
        words = judged(one.workshop, one.registry, version, over=over)
    except Worse:
        return Judged(bundle, version, "refused", one.registry.notes(version)[VERDICT])
    return Judged(bundle, version, "passed", words)


def serves(registry: MlflowRegistry, bundle: Bundle) -> bool:
    """The bundle, or a refresh of it, is the champion."""
    champion = registry.champion(bundle.kind)
    if champion is None:
        return False
    return bundle.id in (champion.bundle, registry.notes(champion).get(f"data.{REFRESH_OF}"))


def document(one: Turn, resumed: bool) -> dict[str, Any]:
    """How the turn went."""
    names = {"passed": "promoted" if one.promote else "waiting"}
    models: dict[str, dict[str, str]] = {
        judged.bundle.kind: {
            "outcome": names.get(judged.outcome, judged.outcome),
            "version": judged.version.number,
            "bundle": judged.bundle.id,
            "verdict": judged.words,
        }
        for judged in one.done
    }
    words = "; ".join(f"{kind} version {m['version']} {m['outcome']}: {m['verdict']}" for kind, m in models.items())
    outcomes = {m["outcome"] for m in models.values()}
    outcome = next((o for o in ("refused", "promoted", "waiting") if o in outcomes), "unchanged")
    return {
        "job": "retrain",
        "outcome": outcome,
        "words": words,
        "snapshot": one.workshop.dataset.snapshot,
        "resumed": resumed,
        **models,
        "seconds": one.seconds,
    }
