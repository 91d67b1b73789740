"""Builds the ranking service."""

from __future__ import annotations

from services.ranking.bundle import load
from services.ranking.service import Model, RankingService
from services.ranking.settings import Settings
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.inference import OnnxModel
from winnow.worker import Worker


def build(settings: Settings, catalogue: Catalogue) -> RankingService:
    """The service over a catalogue that the caller keeps current, giving every change to `changed`. It answers once a
    bundle is loaded and used (`winnow.serving.bundles.follow_bundle`)."""
    worker = Worker("ranking", threads=settings.ranking_threads, max_waiting=settings.ranking_max_waiting)
    return RankingService(catalogue, settings.default_objectives, worker)


def load_bundle(service: RankingService, bundle: Bundle) -> Model:
    """A bundle ready to be used by this service; BundleRefused with the reason. Takes seconds: run it in a thread."""
    return service.load(load(bundle, OnnxModel))
