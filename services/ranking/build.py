"""Builds the ranking service."""

from __future__ import annotations

from functools import partial

from services.ranking.bundle import load
from services.ranking.service import Model, RankingService
from services.ranking.settings import Settings
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.inference import OnnxModel
from winnow.registry import MlflowRegistry
from winnow.serving.bundles import follow_bundle
from winnow.worker import Worker


def build(settings: Settings, catalogue: Catalogue) -> RankingService:
    """The service over a catalogue that the caller keeps current, giving every change to `changed`. It answers once a
    bundle is used: from `follow`, or from `load_bundle`."""
    worker = Worker("ranking", threads=settings.ranking_threads, max_waiting=settings.ranking_max_waiting)
    return RankingService(catalogue, settings.default_objectives, worker)


def load_bundle(service: RankingService, bundle: Bundle) -> Model:
    """A bundle ready to be used by this service; BundleRefused with the reason. Takes seconds: run it in a thread."""
    return service.load(load(bundle, OnnxModel))


async def follow(settings: Settings, service: RankingService) -> None:
    """Keep the service on the registry's champion, for ever."""
    registry = MlflowRegistry(settings.registry_uri, settings.home / "state" / "bundles")
    await follow_bundle(registry, "ranking", partial(load_bundle, service), service.use, settings.bundle_every_s)
