"""Builds the explanation service."""

from __future__ import annotations

from services.explanation.popularity import Popularity
from services.explanation.service import Templates
from services.explanation.settings import Settings
from winnow.catalogue import Catalogue
from winnow.registry import MlflowRegistry
from winnow.serving.bundles import follow_bundle


def build(settings: Settings, catalogue: Catalogue) -> Templates:
    """The service over a catalogue that the caller keeps current. It answers at once; what is popular it says once
    `follow` has found a retrieval bundle."""
    return Templates(catalogue, settings)


async def follow(settings: Settings, service: Templates) -> None:
    """Keep the service on what the champion of retrieval knows to be popular, for ever."""
    registry = MlflowRegistry(settings.registry_uri, settings.home / "state" / "bundles")
    await follow_bundle(registry, "retrieval", Popularity.of, service.use, settings.bundle_every_s)
