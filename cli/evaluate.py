"""`winnow evaluate`: how good the rankings are, beside simple baselines, by the published protocol, with intervals.

Models are trained in a home of their own, on the data set without its test part; the funnel that is measured is the
serving retrieval and ranking services, in this process. What each seed found is kept in that home: an evaluation that was
stopped goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from bench.commit import commit
from cli.ablate import Funnel, Part, ablated
from cli.console import bars, note, out, show
from cli.evaluated import ranking_tables
from cli.homes import BUILD, AsJson, Data, evaluation_home
from cli.ingest import ingested
from cli.models import Workshop, check_preset, retrieval_service
from cli.stamps import Done, Stamps, code, key_of
from winnow.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from training.found import Found

REPORT = BUILD / "evaluate.json"

Preset = Annotated[str, typer.Option("--preset", help="full, or quick for a first impression.")]
Seeds = Annotated[int, typer.Option("--seeds", min=1, max=10, help="Train this often and print the mean.")]
FirstSeed = Annotated[int, typer.Option("--seed", min=0, help="The first of the seeds.")]
People = Annotated[int, typer.Option("--people", min=0, help="Ask for this many people only; 0: all.")]
Models = Annotated[str, typer.Option("--models", help="Models of the catalogue to set beside, separated by commas.")]


def evaluate(
    data: Data = "ml-100k",
    preset: Preset = "full",
    seeds: Seeds = 1,
    seed: FirstSeed = 0,
    people: People = 0,
    models: Models = "",
    ablate: Annotated[Part | None, typer.Option("--ablate", help="Leave parts of the funnel out instead.")] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the whole catalogue for held-out acts; print the tables and write build/evaluate.json."""
    check_preset(preset)
    beside = named_models(models)
    with bars(disable=as_json) as progress:
        summary = ingested(data, evaluation_home(data), progress, replace=True)
        asking = Asking(evaluation_home(data), summary.digest, preset, people, beside)
        if ablate is not None:
            name = f"{summary.name} {ablate.value}"
            document, made = ablated(ablate, summary.name, asking.funnel(seed, progress), progress)
            document |= origin()
            tables = [made]
        else:
            name = summary.name
            done = [asking.seed(number, progress) for number in range(seed, seed + seeds)]
            document = reported(summary.name, asking, range(seed, seed + seeds), done)
            tables = ranking_tables(summary.name, document)
    remember(name, document)
    show({name: document}, tables[0], as_json)
    if not as_json:
        for more in tables[1:]:
            out.print(more)
        note(f"{document['people']} people, commit {document['commit']}; written to {REPORT}")


@dataclass(frozen=True)
class Asking:
    """An evaluation of one home. `content` names its data."""

    home: Path
    content: str
    preset: str
    people: int
    models: tuple[str, ...] = ()

    def seed(self, seed: int, progress: Progress) -> Done:
        """Train with this seed and measure, unless that is done."""
        funnel = self.funnel(seed, progress)
        workshop, bundles = funnel.workshop, [funnel.retrieval.id, funnel.ranking.id]
        key = key_of(self.content, workshop.name, code(), *bundles, self.people, self.models)

        def work() -> dict[str, Any]:
            found = measured(funnel, self.models, progress)
            found.save(self.file(f"{workshop.name}-{key}.npz"))
            return {"file": f"{workshop.name}-{key}.npz", "bundles": bundles}

        done = Stamps(self.home).once(f"measured-{workshop.name}", key, work, self.still)
        taken = {step.name.split("-")[0]: step.seconds for step in (*workshop.steps, done)}
        return Done(done.name, key, done.result | {"seconds": taken}, sum(taken.values()), done.skipped)

    def funnel(self, seed: int, progress: Progress) -> Funnel:
        """Both models of a seed, trained unless they are here; retrieval as a refresh leaves it before the test, which in
        production is never older than a quarter of an hour."""
        workshop = Workshop(self.home, self.content, purpose="evaluate", preset=self.preset, seed=seed)
        retrieval = workshop.retrieval(progress)
        ranking = workshop.ranking(retrieval, workshop.impressions(retrieval, progress), progress)
        return Funnel(workshop, workshop.brought_up(retrieval), ranking, self.people)

    def file(self, name: str) -> Path:
        return self.home / "measured" / name

    def still(self, result: Mapping[str, Any]) -> bool:
        return self.file(str(result["file"])).is_file()

    def found(self, done: Done) -> Found:
        from training.found import Found

        return Found.load(self.file(done.result["file"]))


def measured(funnel: Funnel, models: Sequence[str], progress: Progress) -> Found:
    """Ask both services, and models fitted on all that is not tested, everything."""
    from services.ranking.build import build, load_bundle
    from services.ranking.settings import Settings
    from training.evaluate import evaluate as measure
    from training.rankings import EvaluationSettings
    from training.train_model import fitted
    from winnow.catalogue import Catalogue

    workshop, catalogue = funnel.workshop, Catalogue()
    catalogue.upsert(workshop.dataset.items)
    settings = EvaluationSettings(people=funnel.people, seed=workshop.seed)
    with (
        retrieval_service(workshop.dataset, funnel.retrieval) as retrieval,
        closing(build(Settings(), catalogue)) as ranking,
    ):
        ranking.use(load_bundle(ranking, funnel.ranking))
        known, seed = ~workshop.parts.test, workshop.seed
        beside = {name: fitted(workshop.dataset, known, name, {}, seed, progress) for name in models}
        return asyncio.run(measure(workshop.dataset, workshop.parts, retrieval, ranking, settings, progress, beside))


def named_models(names: str) -> tuple[str, ...]:
    """The models that an option names; InvalidArgument before any work for one that there is not."""
    from training.models.catalogue import kind_of

    chosen = tuple(name.strip() for name in names.split(",") if name.strip())
    try:
        for name in chosen:
            kind_of(name)
    except NotFound as unknown:
        raise InvalidArgument(unknown.detail, field="--models") from unknown
    return chosen


def reported(name: str, asking: Asking, seeds: Sequence[int], done: Sequence[Done]) -> dict[str, Any]:
    """Everything that was found, as JSON: figures, gains over the best baseline, aims, and what it was measured on."""
    from training.aims import verdicts
    from training.baselines import BASELINES, WHERE_REPEATED
    from training.found import figures, gains

    runs = [asking.found(one) for one in done]
    found = figures(runs)
    simple = [model for model in runs[0].models if model in BASELINES | WHERE_REPEATED]
    metrics = [metric for metric in runs[0].columns["funnel"] if "ndcg@10" in metric or metric == "hr@10"]
    return {
        "preset": asking.preset,
        "seeds": list(seeds),
        "people": runs[0].asked,
        "models": found,
        "gains": {model: gains(runs, model, simple, metrics) for model in runs[0].models if model not in simple},
        "aims": [verdict.to_json() for verdict in verdicts(name, found)],
        "bundles": [one.result["bundles"] for one in done],
        "seconds": [one.result["seconds"] for one in done],
    } | origin()


def origin() -> dict[str, Any]:
    """What figures were measured with."""
    from bench.figures import machine

    return {"commit": commit(), "machine": machine()}


def remember(name: str, found: Mapping[str, Any], report: Path = REPORT) -> None:
    """Add what was found of this data set to a report, beside what was of others."""
    document: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    document[name] = found
    report.parent.mkdir(parents=True, exist_ok=True)
    beside = report.with_suffix(".tmp")
    beside.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
    beside.replace(report)
