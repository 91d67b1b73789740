"""Builds the ranking service."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from services.ranking.bundle import load
from services.ranking.service import Model, RankingService
from services.ranking.settings import Settings
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.inference import InProcess, ModelHost
from winnow.registry import MlflowRegistry
from winnow.serving.bundles import follow_bundle
from winnow.serving.model_host import triton_host
from winnow.worker import BriefWorker, Worker


def build(settings: Settings, catalogue: Catalogue) -> RankingService:
    """The service over a catalogue that the caller keeps current, giving every change to `changed`. It answers once a
    bundle is used: from `follow`, or from `load_bundle`."""
    return RankingService(catalogue, settings.default_objectives, worker_of(settings), settings.surface_objectives)


def worker_of(settings: Settings) -> Worker:
    """What waits for another machine keeps off the loop (docs/adr/0025)."""
    kind = Worker if settings.triton_address else BriefWorker
    return kind("ranking", threads=settings.ranking_threads, max_waiting=settings.ranking_max_waiting)


def host_of(settings: Settings) -> ModelHost:
    """Where the models run: in this process, or on the Triton that the settings name."""
    return triton_host(settings) if settings.triton_address else InProcess()


def load_bundle(service: RankingService, bundle: Bundle, host: ModelHost | None = None) -> Model:
    """A bundle ready to be used by this service, in this process where no host is named; BundleRefused with the
    reason. Takes seconds: run it in a thread."""
    return service.load(load(bundle, host or InProcess()))


async def follow(settings: Settings, service: RankingService) -> None:
    """Keep the service on the registry's champion, for ever."""
    registry = MlflowRegistry(settings.registry_uri, settings.home / "state" / "bundles")
    with closing(host_of(settings)) as host:
        beside = partial(load_bundle, service, host=host)
        await follow_bundle(registry, "ranking", beside, service.use, settings.bundle_every_s)
