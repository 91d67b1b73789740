"""Makes the models of a home: the steps that `train`, `demo` and `evaluate` share.

The ranker is trained on what the serving retrieval would have shown, so retrieval is built here, in this process, and
handed to training as a port (docs/adr/0001). Steps are skipped when they were done with the same content (`Stamps`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.progress import Progress

from cli.audited import AuditedRegistry
from cli.homes import registry_uri
from cli.stamps import Done, Stamps, code, key_of
from winnow.artifacts import MANIFEST, REFRESH_OF, Bundle, Kind, open_bundle
from winnow.errors import FailedPrecondition
from winnow.registry import MlflowRegistry

if TYPE_CHECKING:
    from services.retrieval.service import RetrievalService
    from training.dataset import Dataset, Extent
    from training.split import Mask, Purpose, Split


@dataclass
class Workshop:
    """One home's models in the making. `content` names the data that they learn from; the data set is read when the
    first step needs it."""

    home: Path
    content: str
    purpose: Purpose = "serve"
    preset: str = "quick"
    seed: int = 0
    fusion: str = ""  # of the item tower: one of `training.models.fusion.MIXES`, or none
    ranker: str = "dlrm"  # of `training.models.rankers.RANKERS`
    calibration: Literal["platt", "isotonic"] = "platt"
    index: str = "auto"  # kind of retrieval's vector index
    steps: list[Done] = field(default_factory=list)  # what was done or skipped, in order
    extent: Extent | None = None  # how far the home's logs are read; None: to their ends
    params: Mapping[str, Any] = field(default_factory=dict)  # of retrieval, instead of the preset's
    _rewound: dict[tuple[str, bytes], Bundle] = field(default_factory=dict)

    @cached_property
    def dataset(self) -> Dataset:
        from training.dataset import load

        return load(self.home, self.extent)

    @cached_property
    def parts(self) -> Split:
        from training.split import split

        return split(self.dataset, self.purpose)

    @property
    def name(self) -> str:
        """Tells the runs of one home apart."""
        kind = "" if self.index == "auto" else f"-{self.index}"
        return f"{self.purpose}-{self.preset}-{self.seed}{kind}"

    def retrieval(self, progress: Progress) -> Bundle:
        """The retrieval bundle, trained unless it is here."""

        def work() -> Bundle:
            from training.train_retrieval import preset, train

            settings = replace(preset(self.preset, self.home, self.seed), index=self.index)
            settings = replace(settings, sizes=replace(settings.sizes, fusion=self.fusion))
            if self.params:
                from training.subjects import with_params

                settings = with_params(settings, self.params)
            return trained(train(self.dataset, self.parts, settings, self.home / "bundles", progress))

        return self._bundle(
            "retrieval", "retrieval", work, self.fusion, self.index, *sorted(map(str, self.params.items()))
        )

    def impressions(self, over: Bundle, progress: Progress) -> Path:
        """The folder of what this retrieval would have shown at every moment that the ranker learns from."""

        def work() -> dict[str, Any]:
            from training.impressions import build

            retrieval = self.rewound(over, self.parts.train)
            with retrieval_service(self.dataset, retrieval) as service:
                lists = build(self.dataset, self.parts, service, retrieval, self.home / "training", progress=progress)
                return {"folder": asyncio.run(lists).path.name}

        def still(result: dict[str, Any]) -> bool:
            return (self.home / "training" / str(result["folder"]) / "facts.json").is_file()

        done = self._once("impressions", work, still, over.id)
        return self.home / "training" / str(done.result["folder"])

    def brought_up(self, bundle: Bundle) -> Bundle:
        """The bundle as a refresh makes it at the moment of the test: its towers stay as trained, its tables know
        every act that is not tested, as everybody who is compared with it does."""

        def work() -> Bundle:
            from training.refresh import made_again

            return made_again(bundle, self.dataset, ~self.parts.test, self.home / "bundles")

        return self._bundle("refreshed", "retrieval", work, bundle.id)

    def rewound(self, bundle: Bundle, known: Mask) -> Bundle:
        """The bundle itself, or, of a refresh, which knows every act, the one that knows only the acts `known`."""
        if REFRESH_OF not in bundle.data:
            return bundle
        key = (bundle.id, known.tobytes())
        if key not in self._rewound:
            from training.refresh import made_again

            self._rewound[key] = made_again(bundle, self.dataset, known, self.home / "training" / "rewound")
        return self._rewound[key]

    def ranking(self, retrieval: Bundle, shown: Path, progress: Progress) -> Bundle:
        """The ranking bundle over what retrieval would have shown, trained unless it is here."""

        def work() -> Bundle:
            from training.impressions import load
            from training.train_ranking import PRESETS, preset, train

            known = self.preset if self.preset in PRESETS else "quick"
            settings = preset(known, self.home, self.seed, self.ranker, self.calibration)
            return trained(train(load(shown), settings, self.home / "bundles", progress))

        return self._bundle("ranking", "ranking", work, retrieval.id, self.ranker, self.calibration)

    def _bundle(self, step: str, kind: Kind, work: Callable[[], Bundle], *content: str) -> Bundle:
        """The bundle of a step; the stamp keeps its folder."""

        def make() -> dict[str, Any]:
            return {"folder": work().path.name}

        def still(result: dict[str, Any]) -> bool:
            return (self.home / "bundles" / str(result["folder"]) / MANIFEST).is_file()

        done = self._once(step, make, still, *content)
        return open_bundle(self.home / "bundles" / done.result["folder"], kind)

    def _once(
        self, step: str, work: Callable[[], dict[str, Any]], still: Callable[[dict[str, Any]], bool], *content: str
    ) -> Done:
        key = key_of(self.content, self.name, code(), *content)
        done = Stamps(self.home).once(f"{step}-{self.name}", key, work, still)
        self.steps.append(done)
        return done


@contextmanager
def retrieval_service(dataset: Dataset, bundle: Bundle) -> Iterator[RetrievalService]:
    """The retrieval service in this process, over the items of a data set."""
    from services.retrieval.build import build, load_bundle
    from services.retrieval.settings import Settings
    from winnow.catalogue import Catalogue

    catalogue = Catalogue()
    catalogue.upsert(dataset.items)
    with closing(build(Settings(), catalogue)) as service:
        service.use(load_bundle(service, bundle))
        yield service


def check_preset(preset: str) -> None:
    """Refuse, before any work, a preset that no training knows."""
    from training.train_retrieval import PRESETS

    if preset not in PRESETS:
        raise typer.BadParameter(f"one of {', '.join(PRESETS)}", param_hint="--preset")


def check_fusion(how: str) -> None:
    """Refuse, before any work, a way of mixing that there is not."""
    from training.models.fusion import MIXES

    if how and how not in MIXES:
        raise typer.BadParameter(f"one of {', '.join(MIXES)}", param_hint="--fusion")


def check_ranker(model: str) -> None:
    """Refuse, before any work, a ranker that there is not."""
    from training.models.rankers import RANKERS

    if model not in RANKERS:
        raise typer.BadParameter(f"one of {', '.join(RANKERS)}", param_hint="--model")


def trained(bundle: Bundle | None) -> Bundle:
    """The bundle of a training run in this process, which is the first of its ranks."""
    assert bundle is not None
    return bundle


def registry_of(home: Path, uri: str = "") -> MlflowRegistry:
    """The home's own registry, or another by its address."""
    return AuditedRegistry(home, uri or registry_uri(home), home / "state" / "bundles")


def champion_bundle(registry: MlflowRegistry, kind: Kind) -> Bundle:
    """The bundle that serves now; FailedPrecondition when none does."""
    version = registry.champion(kind)
    if version is None:
        raise FailedPrecondition(f"no {kind} model is promoted; run winnow train {kind} --promote first")
    return open_bundle(registry.fetch(version), kind)
