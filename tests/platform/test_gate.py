"""The gate before the champion's place, with trained models and a real registry: what learnt nothing is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.console import bars
from cli.gate import FORCED, PROMOTED, VERDICT, entered, pass_gate, release
from cli.main import app
from cli.models import Workshop, registry_of
from tests.training.worlds import colour_world
from training.impressions import load as load_impressions
from training.loop import LoopSettings
from training.models.two_tower import TowerSizes
from training.train_ranking import RankingSettings
from training.train_ranking import train as train_ranking
from training.train_retrieval import RetrievalSettings
from training.train_retrieval import train as train_retrieval
from winnow.artifacts import Bundle, open_bundle
from winnow.errors import FailedPrecondition
from winnow.registry import CHALLENGER, MlflowRegistry, Version

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

TOWERS = RetrievalSettings(
    LoopSettings(epochs=3, lr=2e-3, warmup_steps=20), TowerSizes(dropout=0.1), windows=4, neighbours=10, threads=1
)
RANKER = RankingSettings(LoopSettings(epochs=3, lr=3e-3, weight_decay=1e-2), moments=32, threads=1)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    home = tmp_path_factory.mktemp("colours")
    colour_world(home, people=120, acts=15)
    return Workshop(home, "colours")


@pytest.fixture(scope="module")
def registry(workshop: Workshop) -> MlflowRegistry:
    return registry_of(workshop.home)


def towers(workshop: Workshop, settings: RetrievalSettings, acts: int = -1) -> Bundle:
    """A model that learnt from the first `acts` only."""
    parts = workshop.parts
    few = parts.train & (np.arange(len(parts.train)) < acts) if acts >= 0 else parts.train
    made = train_retrieval(workshop.dataset, replace(parts, train=few), settings, workshop.home / "bundles")
    assert made is not None
    return made


@pytest.fixture(scope="module")
def champion(workshop: Workshop, registry: MlflowRegistry) -> Version:
    """The first retrieval model has nobody to be compared with."""
    bundle = towers(workshop, TOWERS)
    assert "no champion" in release(workshop, registry, bundle)
    found = registry.champion("retrieval")
    assert found is not None
    assert found.bundle == bundle.id
    return found


@pytest.fixture(scope="module")
def worse(workshop: Workshop, registry: MlflowRegistry, champion: Version) -> Version:
    """A model that saw little."""
    return entered(workshop, registry, towers(workshop, replace(TOWERS, loop=replace(TOWERS.loop, epochs=1)), acts=60))


def alias(registry: MlflowRegistry, name: str) -> str:
    return str(registry._open().get_model_version_by_alias("winnow-retrieval", name).version)


def test_a_worse_retrieval_is_refused_with_figures_and_stays_the_challenger(
    workshop: Workshop, registry: MlflowRegistry, champion: Version, worse: Version
) -> None:
    with pytest.raises(FailedPrecondition, match=r"is worse than .* ndcg@10 .*--force"):
        pass_gate(workshop, registry, worse)
    assert registry.champion("retrieval") == champion
    assert alias(registry, CHALLENGER) == worse.number
    notes = registry.notes(worse)
    assert notes[VERDICT].startswith("worse than")
    assert FORCED not in notes
    assert PROMOTED not in notes


def test_a_reason_overrides_and_is_kept_and_the_way_back_is_free(
    workshop: Workshop, registry: MlflowRegistry, champion: Version, worse: Version
) -> None:
    def promote(number: str, *more: str) -> int:
        words = ["promote", "retrieval", number, "--home", str(workshop.home), *more]
        return CliRunner().invoke(app, words).exit_code

    assert promote(worse.number) != 0
    assert promote(worse.number, "--force", "the old one recommends recalled goods") == 0
    assert registry.champion("retrieval") == worse
    assert registry.notes(worse)[FORCED] == "the old one recommends recalled goods"
    assert promote(champion.number) == 0
    assert registry.champion("retrieval") == champion


def test_an_equal_retrieval_passes(workshop: Workshop, registry: MlflowRegistry, champion: Version) -> None:
    other = towers(workshop, replace(TOWERS, loop=replace(TOWERS.loop, seed=1)))
    version = entered(workshop, registry, other)
    assert pass_gate(workshop, registry, version).startswith("not worse")
    assert registry.champion("retrieval") == version
    registry.promote(champion)


def test_a_ranker_that_learnt_nothing_is_refused(
    workshop: Workshop, registry: MlflowRegistry, champion: Version
) -> None:
    with bars(disable=True) as progress:
        shown = load_impressions(workshop.impressions(open_bundle(registry.fetch(champion), "retrieval"), progress))
    good = train_ranking(shown, RANKER, workshop.home / "rankers")
    bad = train_ranking(shown, replace(RANKER, loop=replace(RANKER.loop, epochs=1, lr=0.0)), workshop.home / "rankers")
    assert good is not None
    assert bad is not None
    release(workshop, registry, good)
    with pytest.raises(FailedPrecondition, match="worse than"):
        release(workshop, registry, bad)
    serving = registry.champion("ranking")
    assert serving is not None
    assert serving.bundle == good.id
