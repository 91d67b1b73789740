"""Builds the gateway from its four peers, near or far."""

from __future__ import annotations

from fastapi import FastAPI

from services.gateway.recommender import Gateway
from services.gateway.rest import rest
from services.gateway.settings import Settings
from winnow.catalogue import Catalogue
from winnow.ports import Explanation, Features, Ranking, Retrieval


def build(
    settings: Settings,
    catalogue: Catalogue,
    features: Features,
    retrieval: Retrieval,
    ranking: Ranking,
    explanation: Explanation,
) -> Gateway:
    """The gateway over a catalogue that the caller keeps current."""
    return Gateway(features, retrieval, ranking, explanation, catalogue, settings)


def face(settings: Settings, gateway: Gateway) -> FastAPI:
    """The gateway's REST face."""
    return rest(gateway, gateway.item, settings.max_body_bytes, settings.body_s)


async def remember(settings: Settings, gateway: Gateway, retrieval: Retrieval) -> None:
    """Keep the list for bad times fresh, for ever."""
    await gateway.popular.remember(retrieval, settings.popular_every_s)
