"""`winnow optimize MODEL`: search a model's settings, keep every trial, and say what the best are worth.

Trials lie in the home (optimize.db) and in its MLflow; what is chosen is written to settings/MODEL.json of the home, which
`winnow train MODEL --settings` reads. Stopped by Ctrl-C or killed, the same command goes on; its budget is that of all
starts together, from the moment that each begins.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from bench.commit import commit
from cli.console import bars, note, out, show, table
from cli.evaluate import People
from cli.homes import AsJson, Data, HomeOption, home_of, registry_uri
from cli.promote import Uri
from cli.train import Preset, Seed
from training.models.catalogue import CATALOGUE, kind_of
from winnow.errors import FailedPrecondition
from winnow.home import DATASET
from winnow.nearest import meant
from winnow.trial_log import TrialLog

if TYPE_CHECKING:
    from training.search import Chosen, SearchSettings, Subject, Tried

TOWERS = "retrieval"


def known(model: str) -> str:
    there = (*CATALOGUE, TOWERS)
    if model not in there:
        raise typer.BadParameter(f"no model {model!r}{meant(model, there)}; there are {', '.join(there)}")
    if model != TOWERS and not kind_of(model).space:
        raise typer.BadParameter(f"{model} has no settings to search")
    return model


ModelName = Annotated[
    str, typer.Argument(help="A model of the catalogue, or retrieval: the two towers.", callback=known)
]
Minutes = Annotated[
    float,
    typer.Option(
        "--minutes",
        min=0,
        help="By the clock, loading the data and the last comparison too, all starts together; one trial always runs. "
        "0: no limit.",
    ),
]
Trials = Annotated[int, typer.Option("--trials", min=0, help="At most, all starts together; 0: no limit.")]
Metric = Annotated[str, typer.Option("--metric", help="ndcg@10, ndcg@20, hr@10 or hr@20 of the validation part.")]


def optimize(
    model: ModelName,
    data: Data = "ml-100k",
    home: HomeOption = None,
    minutes: Minutes = 30.0,
    trials: Trials = 0,
    metric: Metric = "ndcg@10",
    preset: Preset = "quick",
    seed: Seed = 0,
    people: People = 0,
    mlflow: Uri = "",
    as_json: AsJson = False,
) -> None:
    """Search a model's settings within a budget; compare the best with the default on acts that no trial saw."""
    began = time.monotonic()
    from training.search import SearchSettings, search

    place = home_of(data, home)
    settings = SearchSettings(minutes, trials, metric, seed, began)
    if not (minutes or trials):
        raise typer.BadParameter("give minutes, trials or both", param_hint="--minutes")
    if not (place / DATASET).is_file():
        raise FailedPrecondition(f"{place} holds no data set; run winnow ingest first")
    with bars(disable=as_json) as progress:
        subject = subject_of(model, place, preset, seed, people)
        log = TrialLog(mlflow or registry_uri(place), place / "state" / "bundles")
        log.begin(f"{model} {metric} {seed}")
        report = Report(log, metric, progress, settings)
        chosen = search(subject, place / "optimize.db", settings, report.told)
        log.end(chosen.params, {f"held_out_{k}": v.value for k, v in chosen.best.items()})
    document = written(place, model, subject, settings.metric, seed, chosen)
    show(document, comparison(model, chosen), as_json)
    if not as_json:
        out.print(varied(subject.defaults, chosen.params))
        note(f"{chosen.trials} trials in {place / 'optimize.db'}; settings in {settings_file(place, model)}")


def subject_of(model: str, home: Path, preset: str, seed: int, people: int) -> Subject:
    """The model with a home's data, split so that neither trials nor the last comparison see what they are asked."""
    from training.dataset import load
    from training.split import split
    from training.subjects import ContractModel, TwoTowers
    from training.train_retrieval import preset as retrieval_preset

    dataset = load(home)
    parts = split(dataset, "evaluate")
    if model == TOWERS:
        settings = retrieval_preset(preset, home, seed)
        checkpoint = home / "training" / f"search-{preset}-{seed}.ckpt"
        return TwoTowers(dataset, parts, replace(settings, loop=replace(settings.loop, checkpoint=checkpoint)))
    return ContractModel(model, dataset, parts, seed, people)


class Report:
    """Tells of trials as they end: to MLflow, and on a bar."""

    def __init__(self, log: TrialLog, metric: str, progress: Progress, budget: SearchSettings) -> None:
        self._log, self._metric, self._progress = log, metric, progress
        self._best = float("-inf")
        self._by_time = bool(budget.minutes)
        total = budget.minutes * 60 if self._by_time else budget.trials
        self._bar = progress.add_task("trials", total=total)
        if self._by_time:
            progress.update(self._bar, completed=time.monotonic() - budget.began)

    def told(self, tried: Tried) -> None:
        self._log.trial(f"trial {tried.number}", tried.params, tried.metrics, tried.words)
        value = tried.metrics[self._metric] if tried.metrics is not None else float("-inf")
        self._best = max(self._best, value)
        words = f"trial {tried.number}: {self._metric} {value:.4f}, best {self._best:.4f}"
        self._progress.update(self._bar, advance=tried.seconds if self._by_time else 1, description=words)


def settings_file(home: Path, model: str) -> Path:
    return home / "settings" / f"{model}.json"


def written(home: Path, model: str, subject: Subject, metric: str, seed: int, chosen: Chosen) -> dict[str, Any]:
    """The settings file: what was chosen, and why."""
    document: dict[str, Any] = {
        "model": model,
        "settings": chosen.params,
        "seed": seed,
        "metric": metric,
        "trials": chosen.trials,
        "validation": {"default": chosen.validation[0], "best": chosen.validation[1]},
        "held out": {
            name: {
                "default": chosen.default[name].to_json(),
                "best": best.to_json(),
                "gain": chosen.gain[name].to_json(),
            }
            for name, best in chosen.best.items()
        },
        "search": subject.key,
        "commit": commit(),
    }
    file = settings_file(home, model)
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps(document, indent=1), encoding="utf-8")
    beside.replace(file)
    return document


def comparison(model: str, chosen: Chosen) -> Table:
    """On acts that no trial saw."""
    made = table(f"{model}: held-out acts", "metric", "#default", "#best", "#gain", "#95 %")
    for name, best in chosen.best.items():
        gain = chosen.gain[name]
        interval = f"[{gain.low:+.4f}, {gain.high:+.4f}]"
        made.add_row(name, f"{chosen.default[name].value:.4f}", f"{best.value:.4f}", f"{gain.value:+.4f}", interval)
    return made


def varied(defaults: Mapping[str, Any], params: Mapping[str, Any]) -> Table:
    made = table("settings", "setting", "#default", "#best")
    for name, value in params.items():
        made.add_row(name, short(defaults[name]), short(value))
    return made


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
