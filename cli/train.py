"""`winnow train retrieval` and `winnow train ranking`: train, export, register; with --promote also serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.console import bars, facts, show
from cli.gate import entered, pass_gate
from cli.homes import AsJson, Data, HomeOption, Index, home_of
from cli.models import Workshop, champion_bundle, check_fusion, check_preset, check_ranker, registry_of
from cli.promote import Uri
from cli.settings_file import SettingsFile, read_settings
from winnow.artifacts import Bundle
from winnow.errors import FailedPrecondition
from winnow.home import DATASET
from winnow.registry import MlflowRegistry, model_name

app = typer.Typer(help="Train a model of a home and register it.", no_args_is_help=True)

Preset = Annotated[str, typer.Option("--preset", help="quick (minutes on two cores) or full.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of weights and samples: the same seed gives the same model.")]
Promote = Annotated[
    bool, typer.Option("--promote", help="Make it the champion at once, unless it is worse than the one that serves.")
]


Fusion = Annotated[
    str,
    typer.Option("--fusion", help="Mix an item's id, words and the rest by concat, weighted, attention or gated."),
]
RankerName = Annotated[str, typer.Option("--model", help="dlrm, dcn_v2 or deepfm.")]
Calibrated = Annotated[
    Literal["platt", "isotonic"], typer.Option("--calibration", help="How logits become probabilities.")
]


@dataclass(frozen=True)
class Plan:
    """What the options of a training command say."""

    workshop: Workshop
    registry: MlflowRegistry
    promote: bool
    as_json: bool

    def finish(self, bundle: Bundle) -> None:
        """Register the bundle as the challenger, lead it through the gate if asked, and say so."""
        version = entered(self.workshop, self.registry, bundle)
        verdict = pass_gate(self.workshop, self.registry, version) if self.promote else ""
        document: dict[str, Any] = {
            "model": model_name(bundle.kind),
            "version": version.number,
            "bundle": bundle.id,
            "champion": self.promote,
            "verdict": verdict,
            "metrics": dict(bundle.metrics),
        }
        rows = {name: value for name, value in document.items() if name != "metrics"}
        rows |= {name: f"{value:.4g}" for name, value in bundle.metrics.items()}
        if bundle.kind == "retrieval":
            from training.vector_index import described

            document["index"] = described(bundle)
            rows |= {f"index {name}": value for name, value in document["index"].items()}
        show(document, facts("trained", rows), self.as_json)


@app.command()
def retrieval(
    data: Data = "ml-100k",
    home: HomeOption = None,
    preset: Preset = "quick",
    seed: Seed = 0,
    file: SettingsFile = None,
    fusion: Fusion = "",
    promote: Promote = False,
    mlflow: Uri = "",
    index: Index = "auto",
    as_json: AsJson = False,
) -> None:
    """The two-tower model, its item vectors and its index."""
    from training.vector_index import check_kind

    check_fusion(fusion)
    plan = planned(home_of(data, home), preset, seed, promote, mlflow, as_json)
    plan.workshop.params = read_settings(file, "retrieval")
    plan.workshop.fusion = fusion
    plan.workshop.index = check_kind(index)
    with bars(disable=as_json) as progress:
        bundle = plan.workshop.retrieval(progress)
    plan.finish(bundle)


@app.command()
def ranking(
    data: Data = "ml-100k",
    home: HomeOption = None,
    model: RankerName = "dlrm",
    calibration: Calibrated = "platt",
    preset: Preset = "quick",
    seed: Seed = 0,
    promote: Promote = False,
    mlflow: Uri = "",
    as_json: AsJson = False,
) -> None:
    """The ranker, on what the champion of retrieval would have shown."""
    check_ranker(model)
    plan = planned(home_of(data, home), preset, seed, promote, mlflow, as_json)
    plan.workshop.ranker, plan.workshop.calibration = model, calibration
    over = champion_bundle(plan.registry, "retrieval")
    with bars(disable=as_json) as progress:
        shown = plan.workshop.impressions(over, progress)
        bundle = plan.workshop.ranking(over, shown, progress)
    plan.finish(bundle)


def planned(home: Path, preset: str, seed: int, promote: bool, mlflow: str, as_json: bool) -> Plan:
    """The options, checked; live events count as content, so that a training after them learns from them."""
    if not (home / DATASET).is_file():
        raise FailedPrecondition(f"{home} holds no data set; run winnow ingest first")
    check_preset(preset)
    workshop = Workshop(home, "", preset=preset, seed=seed)
    workshop.content = workshop.dataset.snapshot
    return Plan(workshop, registry_of(home, mlflow), promote, as_json)
