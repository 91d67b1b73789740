"""`winnow refresh`: the champion of retrieval made again over today's catalogue and log, with the towers it has.

Meant to run every 15 minutes. It imports no torch, does nothing where nothing changed, and respects a rollback: where a
newer refresh of the same towers has served and somebody moved the alias back, it waits for `--anew`.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.gate import PROMOTED, Worse, judged, registered, take_over
from cli.homes import AsJson, Data, HomeOption, Index, home_of
from cli.models import Workshop, registry_of
from cli.promote import Uri
from cli.turns import Exit, told, turn
from winnow.artifacts import REFRESH_OF, Bundle, open_bundle
from winnow.errors import FailedPrecondition, NotFound
from winnow.registry import CHALLENGER, MlflowRegistry, Version, model_name

if TYPE_CHECKING:
    from training.refresh import Refreshed

KEPT = 12  # refreshes that stay: three hours of rollback at one every 15 minutes
REFRESH_TAG = f"data.{REFRESH_OF}"  # of a version that is a refresh

Keep = Annotated[
    int, typer.Option("--keep", min=1, help="Refreshes that stay in the registry; trained versions all do.")
]
Anew = Annotated[bool, typer.Option("--anew", help="Go on although somebody rolled the last refresh back.")]


@dataclass
class Turn:
    """One refresh and how it went."""

    workshop: Workshop
    registry: MlflowRegistry
    status: Exit = Exit.DONE
    document: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def ended(self, outcome: str, words: str, **more: Any) -> None:
        self.document = {"job": "refresh", "outcome": outcome, "words": words, **more, "seconds": self.seconds}

    def timed(self, what: str, began: float) -> None:
        self.seconds[what] = round(time.monotonic() - began, 2)


def refresh(
    data: Data = "ml-100k",
    home: HomeOption = None,
    mlflow: Uri = "",
    keep: Keep = KEPT,
    anew: Anew = False,
    index: Index = "",
    as_json: AsJson = False,
) -> None:
    """Bring the champion of retrieval up to today's catalogue and log, without training, and promote it. Exits with 3
    when the result is worse than what serves, with 4 when another job works in this home."""
    folder = home_of(data, home)
    one = Turn(Workshop(folder, "", index=index), registry_of(folder, mlflow))
    with turn(folder, "refresh"):
        began = time.monotonic()
        run(one, keep, anew)
        one.timed("total", began)
    told("refresh", one.document, one.status, as_json)


def run(one: Turn, keep: int = KEPT, anew: bool = False) -> None:
    """One turn."""
    champion = one.registry.champion("retrieval")
    if champion is None:
        raise FailedPrecondition("no retrieval model is promoted; run winnow train retrieval --promote first")
    base = open_bundle(one.registry.fetch(champion), "retrieval")
    made = computed(one, base)
    if made is None:  # the usual turn of a quiet night, before MLflow, whose import takes seconds, is asked anything
        one.ended("unchanged", f"nothing changed since version {champion.number}", champion=champion.number)
        return
    newer = None if anew else rolled_back(one.registry, champion, base)
    if newer is not None:
        where = f"version {newer.number} was rolled back to {champion.number}"
        one.ended("held", f"{where}; winnow refresh --anew goes on", champion=champion.number)
        return
    serve(one, champion, made)
    prune(one.registry, keep)


def computed(one: Turn, base: Bundle) -> Refreshed | None:
    """The refresh, in a folder of its own; None where nothing changed."""
    from training.refresh import refresh as make

    began = time.monotonic()
    dataset = one.workshop.dataset
    one.timed("read", began)
    began = time.monotonic()
    target = one.workshop.home / "training" / "refreshed"
    shutil.rmtree(target, ignore_errors=True)  # the last one is registered, or was refused
    made = make(base, dataset, target, time.time(), one.workshop.index)
    one.timed("compute", began)
    return made


def serve(one: Turn, champion: Version, made: Refreshed) -> None:
    """Register, judge and promote; whoever moves the alias meanwhile is right."""
    began = time.monotonic()
    version = registered(one.workshop, one.registry, made.bundle)
    changes = {"new_items": made.new_items, "changed_items": made.changed_items, "new_acts": made.new_acts}
    about: dict[str, Any] = {"model": model_name("retrieval"), "version": version.number, "bundle": made.bundle.id}
    about |= {"refresh_of": made.bundle.data[REFRESH_OF], "champion": champion.number, **changes}
    try:
        verdict = judged(one.workshop, one.registry, version)
    except Worse as worse:
        one.status = Exit.REFUSED
        one.ended("refused", worse.detail, **about)
        return
    finally:
        one.timed("judge", began)
    if one.registry.champion("retrieval") != champion:
        one.ended("overtaken", "another version was promoted meanwhile; the next turn refreshes that one", **about)
        return
    take_over(one.registry, version)
    what = f"{made.new_items} new items, {made.changed_items} changed, {made.new_acts} more acts"
    one.ended("promoted", f"version {version.number} serves: {what}", **about, verdict=verdict)


def rolled_back(registry: MlflowRegistry, champion: Version, base: Bundle) -> Version | None:
    """A later refresh of the same towers that has served, or None."""
    trained = base.data.get(REFRESH_OF, base.id)
    for version in registry.versions("retrieval"):
        if int(version.number) <= int(champion.number):
            return None
        notes = registry.notes(version)
        if notes.get(REFRESH_TAG) == trained and PROMOTED in notes:
            return version
    return None


def prune(registry: MlflowRegistry, keep: int) -> None:
    """Forget all but the newest refreshes; never one that an alias points at, never a trained version."""
    refreshes = [one for one in registry.versions("retrieval") if REFRESH_TAG in registry.notes(one)]
    held = {registry.holder("retrieval", alias) for alias in ("champion", CHALLENGER)}
    for version in refreshes[keep:]:
        if version not in held:
            try:
                registry.forget(version)
            except NotFound:  # somebody deleted it first
                continue
