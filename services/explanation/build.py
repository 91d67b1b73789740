"""Builds the explanation service."""

from __future__ import annotations

from services.explanation.popularity import Popularity
from services.explanation.service import Templates
from services.explanation.settings import Settings
from winnow.artifacts import Bundle
from winnow.catalogue import Catalogue
from winnow.home import positive_value
from winnow.registry import MlflowRegistry
from winnow.serving.bundles import follow_bundle


def build(settings: Settings, catalogue: Catalogue) -> Templates:
    """The service over a catalogue that the caller keeps current. It answers at once; what is popular it says once
    `follow` has found a retrieval bundle."""
    own = settings.positive_value
    return Templates(catalogue, positive_value(settings.home) if own is None else own)


def load_bundle(bundle: Bundle) -> Popularity:
    """What the service uses of a retrieval bundle."""
    return Popularity.of(bundle)


async def follow(settings: Settings, service: Templates) -> None:
    """Keep the service on what the champion of retrieval knows to be popular, for ever."""
    registry = MlflowRegistry(settings.registry_uri, settings.home / "state" / "bundles")
    await follow_bundle(registry, "retrieval", load_bundle, service.use, settings.bundle_every_s)
