"""Builds the gateway from its four peers, near or far."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from services.gateway.decisions import DecisionLog, Outlet
from services.gateway.gate import Gate
from services.gateway.inner import Inner
from services.gateway.popular import Popular
from services.gateway.recommender import Gateway
from services.gateway.rest import rest
from services.gateway.rules import FILE, RuleBook
from services.gateway.settings import MS, Settings
from services.gateway.spool import Spool
from services.gateway.stand_in import HotStates, StandIn
from services.gateway.to_disk import ToDisk
from services.gateway.together import ExplanationTogether, FeaturesTogether, RankingTogether, RetrievalTogether
from services.gateway.zeros import begin_at_zero
from winnow.audit.acts import Unaudited
from winnow.audit.ledger import ledger
from winnow.catalogue import Catalogue
from winnow.home import decisions_folder, rules_folder
from winnow.ports import Explanation, Features, Ranking, Retrieval


def build(
    settings: Settings,
    catalogue: Catalogue,
    features: Features,
    retrieval: Retrieval,
    ranking: Ranking,
    explanation: Explanation,
    stand_in: StandIn | None = None,
) -> Gateway:
    """The gateway over a catalogue that the caller keeps current."""
    begin_at_zero(settings)
    popular = Popular(catalogue, settings.popular_items)
    at_once = settings.peer_calls
    inner = Inner(
        FeaturesTogether(features, at_once),
        RetrievalTogether(retrieval, at_once),
        RankingTogether(ranking, at_once),
        ExplanationTogether(explanation, at_once),
        popular,
        settings,
        stand_in,
    )
    audit = ledger(settings, "gateway") if settings.audit else Unaudited()
    rules = RuleBook(rules_file(settings), required=bool(settings.rules_file))
    decisions = DecisionLog(outlet(settings), queue_bytes=settings.decision_queue_bytes, audit=audit)
    return Gateway(inner, catalogue, settings, decisions, rules)


def rules_file(settings: Settings) -> Path:
    """Where `winnow rules publish` writes, unless the settings name another file."""
    return Path(settings.rules_file) if settings.rules_file else rules_folder(settings.home) / FILE


def hot_states(settings: Settings) -> HotStates | None:
    """Who knows people while the feature service is away, where there is a Redis."""
    return HotStates(settings.redis_url, settings.redis_timeout_ms * MS) if settings.redis_url else None


def outlet(settings: Settings) -> Outlet:
    """Where decisions go: the broker with the disk behind it, or the disk alone, which then keeps the newest."""
    disk = ToDisk(
        lambda: Spool(
            decisions_folder(settings.home),
            max_bytes=settings.decision_disk_bytes,
            free_bytes=settings.decision_free_bytes,
            rolling=not settings.kafka_bootstrap,
        )
    )
    if not settings.kafka_bootstrap:
        return disk
    from services.gateway.to_broker import ToBroker  # a gateway without a broker needs no client of one

    return ToBroker(settings.kafka_bootstrap, disk, replicas=settings.kafka_replicas)


def face(settings: Settings, gateway: Gateway, guard: Gate | None = None) -> FastAPI:
    """The gateway's REST face."""
    return rest(gateway, gateway.item, settings.max_body_bytes, settings.body_s, guard)


async def remember(settings: Settings, gateway: Gateway, retrieval: Retrieval) -> None:
    """Keep the list for bad times fresh, for ever."""
    await gateway.popular.remember(retrieval, settings.popular_every_s)
