"""Builds the explanation service."""

from __future__ import annotations

from services.explanation.service import Templates
from services.explanation.settings import Settings
from winnow.catalogue import Catalogue
from winnow.ports import Explanation


def build(settings: Settings, catalogue: Catalogue) -> Explanation:
    """The service over a catalogue that the caller keeps current (`winnow.catalogue.follow`)."""
    return Templates(catalogue, settings)
