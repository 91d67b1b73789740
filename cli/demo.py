"""`winnow demo`: from a data set to answers, one step a function.

Read, train retrieval, ask it what it would have shown, train the ranker on that, register and promote both, serve all
five services in this process, show three people's answers, and go on serving until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from cli.answers import answer_table, document, remarks
from cli.console import bars, note, out
from cli.gate import release
from cli.homes import BUILD, Data, HomeOption, home_of, registry_uri
from cli.ingest import ingested
from cli.models import Workshop, check_preset, registry_of
from cli.people import SHOWN, three_people
from parts.mlflow import mlflow
from parts.program import HOST, Running, find, launch, port_near
from winnow.artifacts import Bundle
from winnow.errors import FailedPrecondition, Unavailable
from winnow.registry import MlflowRegistry, model_name
from winnow.requests import RecommendRequest
from winnow.types import Person

if TYPE_CHECKING:
    from services.all import Platform
    from training.ingest import IngestSummary

READY_S = 180.0
WARM_S = 20.0  # the first requests of a process load code and fill caches
PORTS = {"rest": 8080, "grpc": 50050, "mlflow": 5000}


@dataclass
class Story:
    """What happened so far, for the person who watches and for demo.json."""

    data: str
    home: Path
    steps: int = 6
    seconds: dict[str, float] = field(default_factory=dict)
    done_before: list[str] = field(default_factory=list)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Announce a step and take its time."""
        note(f"{len(self.seconds) + 1}/{self.steps} {what}")
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)

    def already(self, name: str) -> None:
        self.done_before.append(name)
        note("    already done")

    def write(self, file: Path) -> None:
        """Everything as JSON."""
        told = {
            "data": self.data,
            "users": self.people,
            "skipped": sorted({stage for person in self.people.values() for stage in person["skipped"]}),
            "already_done": self.done_before,
            "seconds": self.seconds | {"total": round(sum(self.seconds.values()), 2)},
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def demo(
    data: Data = "ml-100k",
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="End after the answers, written to build/demo.json.")] = False,
    preset: Annotated[str, typer.Option("--preset", help="Of training: quick or full.")] = "quick",
) -> None:
    """Train on a data set before your eyes, serve, and show what three people get."""
    check_preset(preset)
    story = Story(data, home_of(data, home))
    with bars() as progress:
        summary = read(story, progress)
        workshop = Workshop(story.home, summary.digest, preset=preset)
        retrieval = train_retrieval(story, workshop, progress)
        shown = ask_retrieval(story, workshop, retrieval, progress)
        ranking = train_ranking(story, workshop, retrieval, shown, progress)
        promote(story, workshop, retrieval, ranking)
    serve(story, once)


def read(story: Story, progress: Progress) -> IngestSummary:
    """The data set becomes a home; bad rows are set aside."""
    with story.step("ingest", f"reading {story.data} into {story.home}"):
        summary = ingested(story.data, story.home, progress)
        if summary.skipped:
            story.already("ingest")
    return summary


def train_retrieval(story: Story, workshop: Workshop, progress: Progress) -> Bundle:
    """Two towers learn to find, for every person, the items that they act on next."""
    with story.step("train_retrieval", "training retrieval: two towers, item vectors, index"):
        bundle = workshop.retrieval(progress)
        noted(story, workshop)
    return bundle


def ask_retrieval(story: Story, workshop: Workshop, retrieval: Bundle, progress: Progress) -> Path:
    """What retrieval would have shown at every later moment: that is what the ranker will meet."""
    with story.step("impressions", "asking retrieval what it would have shown"):
        shown = workshop.impressions(retrieval, progress)
        noted(story, workshop)
    return shown


def train_ranking(story: Story, workshop: Workshop, retrieval: Bundle, shown: Path, progress: Progress) -> Bundle:
    """The ranker learns what people did with what they would have been shown."""
    with story.step("train_ranking", "training the ranker: P(click), P(convert), E[value]"):
        bundle = workshop.ranking(retrieval, shown, progress)
        noted(story, workshop)
    for name in ("auc_click", "ece_click", "ece_convert", "ece_value"):
        if name in bundle.metrics:
            note(f"    {name} {bundle.metrics[name]:.4f}")
    return bundle


def promote(story: Story, workshop: Workshop, *bundles: Bundle) -> None:
    """Both bundles become versions in MLflow, and the champions that serving follows."""
    with story.step("promote", "registering and promoting both in MLflow"):
        registry = registry_of(story.home)
        said = [released(workshop, registry, bundle) for bundle in bundles]
        if not any(said):
            story.already("promote")


def released(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> str:
    """Through the gate; one that is refused is told, and the champion that is there goes on serving."""
    try:
        said = release(workshop, registry, bundle)
    except FailedPrecondition as refused:
        said = refused.detail
    if said:
        note(f"    {model_name(bundle.kind)}: {said}")
    return said


def noted(story: Story, workshop: Workshop) -> None:
    """Say so when the last step of the workshop had nothing to do."""
    if workshop.steps[-1].skipped:
        story.already(workshop.steps[-1].name.partition("-")[0])


def serve(story: Story, once: bool) -> None:
    """All five services in this process until the story is over."""
    import uvloop

    from services.all import Platform, Settings
    from winnow.serving.telemetry import configure_logging

    configure_logging("WARNING")
    settings = Settings(
        home=story.home,
        mlflow_uri=registry_uri(story.home),
        rest_address=f"{HOST}:{port_near(PORTS['rest'])}",
        gateway_address=f"{HOST}:{port_near(PORTS['grpc'])}",
    )
    platform = Platform(settings)

    async def run() -> None:
        telling = asyncio.create_task(tell(story, platform, once))
        try:
            await platform.process().run(lambda: over(telling))
        finally:
            telling.cancel()  # when the process ended by itself; a story that is over stays as it is
        await telling

    uvloop.run(run())


async def over(task: asyncio.Task[None]) -> None:
    """Returns when the task is over, however it ended."""
    await asyncio.wait([task])


async def tell(story: Story, platform: Platform, once: bool) -> None:
    """Show the answers, then (unless once) the addresses, and wait for Ctrl-C."""
    from winnow.serving.signals import until_stopped

    with story.step("answers", "starting five services and asking for three people"):
        people = three_people(story.home)
        await warm(platform, people["unknown"])
        for role, person in people.items():
            await show_answer(story, platform, role, person)
    story.write(BUILD / "demo.json")
    note(f"written: {BUILD / 'demo.json'} · {sum(story.seconds.values()):.0f} s")
    if once:
        return
    ui, port = mlflow_ui(story.home)
    try:
        show_addresses(platform, f"http://{HOST}:{port}")
        await until_stopped()
        note("stopping")
    finally:
        ui.stop()


def mlflow_ui(home: Path) -> tuple[Running, int]:
    """MLflow's server and its port. One that a killed demo left makes way first: it may hold the usual port."""
    if (left := find(mlflow(home, PORTS["mlflow"]))) is not None:
        left.stop()
    port = port_near(PORTS["mlflow"])
    return launch(mlflow(home, port)), port


async def warm(platform: Platform, person: Person) -> None:
    """Wait until the platform is ready, then ask until an answer needs nothing skipped; Unavailable when it never is."""
    ready_by = time.monotonic() + READY_S
    while not (readiness := await platform.gateway.ready()).ready:
        if time.monotonic() > ready_by:
            raise Unavailable(f"not ready after {READY_S:.0f} s, missing: {', '.join(readiness.missing)}")
        await asyncio.sleep(0.1)
    warm_by = time.monotonic() + WARM_S
    while time.monotonic() < warm_by:
        [answer] = await platform.gateway.recommend([RecommendRequest(person)])
        if not answer.skipped:
            return


async def show_answer(story: Story, platform: Platform, role: str, person: Person) -> None:
    [answer] = await platform.gateway.recommend([RecommendRequest(person, n=SHOWN)])
    [state] = await platform.feature.users([person])
    told = document(answer)
    name = person.user_id or person.session_id
    out.print(answer_table(f"\n{role} user {name}: {state.events:,} events", told))
    note(remarks(told))
    story.people[role] = summary_of(person, told)


def summary_of(person: Person, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A person's answer as columns, for demo.json."""
    lines = answer["items"]
    return {
        "user_id": person.user_id,
        "session_id": person.session_id,
        "item_ids": [one["item_id"] for one in lines],
        "titles": [one["item"]["title"] if one["item"] else "" for one in lines],
        "sources": [one["sources"] for one in lines],
        "predictions": [one["predictions"] for one in lines],
        "scores": [one["score"] for one in lines],
        "reasons": [one["reason"] and one["reason"]["text"] for one in lines],
        "skipped": answer["skipped"],
        "bundles": answer["bundles"],
        "took_ms": answer["took_ms"],
    }


def show_addresses(platform: Platform, mlflow: str) -> None:
    rest, grpc = platform.settings.rest_address, platform.settings.gateway_address
    out.print(f"\nREST    http://{rest}/docs")
    out.print(f"gRPC    {grpc} (health and reflection on)")
    out.print(f"MLflow  {mlflow} (answers in about 20 s)")
    out.print(f"Try     curl 'http://{rest}/v1/recommendations?user_id=1&n=3'")
    out.print("Ctrl-C ends all of it.")
