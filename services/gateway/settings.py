"""Settings of the gateway, read once from the environment (`WINNOW_RETRIEVAL_BUDGET_MS`, …)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.gateway.auth_settings import AuthSettings
from winnow.audit.settings import AuditSettings
from winnow.kafka_security import KafkaSecurity
from winnow.serving.address import Address, RedisUrl
from winnow.serving.settings import FaceSettings
from winnow.types import MAX_USERS

MS = 1e-3


class Settings(AuthSettings, AuditSettings, FaceSettings, KafkaSecurity):
    """Where the gateway listens, where its peers are, and how long a stage may take.

    A budget is for one request; a batch of b gets max(1, b / 4) times as much.
    """

    model_config = SettingsConfigDict(env_prefix="WINNOW_", frozen=True, extra="ignore")

    home: Path = Path("build/homes/ml-100k")
    rest_address: Address = "127.0.0.1:8080"
    gateway_address: Address = "127.0.0.1:50050"
    feature_address: Address = "127.0.0.1:50051"
    retrieval_address: Address = "127.0.0.1:50052"
    ranking_address: Address = "127.0.0.1:50053"
    explanation_address: Address = "127.0.0.1:50054"

    candidates: int = Field(500, ge=1, le=5_000, description="how many items one request ranks")
    query_weight: float = Field(
        3.0, ge=0, le=100, description="worth of the best match with a request's words, in ranges of the other scores"
    )
    new_items_share: float = Field(
        0.0, ge=0, le=0.5, description="least share of a page's places for new items; 0: no floor"
    )
    new_items_days: float = Field(14.0, gt=0, le=3_650, description="how long after its created_at an item is new")
    slate_diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how much unlikeness counts against scores where a request does not say; 0: nothing",
    )
    slate_diversity_by: Literal["mmr", "dpp"] = Field("mmr", description="what chooses unlike items")
    slate_duplicates: float = Field(
        0.0, ge=0, le=1, description="cosine from which an item that repeats a better one goes to the end; 0: none goes"
    )
    slate_category_cap: int = Field(
        0, ge=0, le=9, description="most items of one first category in every ten places; 0: any number"
    )
    slate_freshness: float = Field(
        0.0, ge=0, le=1, description="what being new is worth, in ranges of the scores; 0: nothing"
    )
    slate_fresh_days: float = Field(30.0, gt=0, le=3_650, description="after so long it is worth half")
    rules_file: str = Field("", description="business rules; empty: rules/rules.json in the home, where there is one")
    explore: float = Field(
        0.0, ge=0, le=0.5, description="share of the first fifty places that are left to chance; 0: none is"
    )
    explore_pool: int = Field(20, ge=2, le=200, description="next candidates of the same kind that one is drawn from")
    explore_s: float = Field(600.0, ge=1, le=86_400, description="for so long a person is drawn the same")
    peer_calls: int = Field(
        2, ge=1, le=1_000, description="calls to one peer at once before those that come meanwhile leave together"
    )
    feature_budget_ms: float = Field(200.0, gt=0, description="then the person counts as unknown")
    retrieval_budget_ms: float = Field(400.0, gt=0, description="then what was popular is shown")
    ranking_budget_ms: float = Field(400.0, gt=0, description="then retrieval's order stands")
    explanation_budget_ms: float = Field(200.0, gt=0, description="then items come without reasons")
    write_budget_ms: float = Field(5_000.0, gt=0, description="events and items until they are durable")
    popular_every_s: float = Field(30.0, gt=0, description="how often the fallback list is refreshed")
    popular_items: int = Field(1_000, ge=1, le=5_000, description="items the gateway remembers for that")
    grace_s: float = Field(10.0, gt=0, description="how long requests in flight may take at the end")
    max_body_bytes: int = Field(2 * 2**20, ge=1_024)
    kafka_bootstrap: str = Field("", description="host:port,… of the brokers; empty: the home alone")
    kafka_replicas: int = Field(1, ge=1, le=9, description="of the topics that are made at the start")
    redis_url: RedisUrl = Field(
        "", repr=False, description="redis://host:port/0, asked of people while feature is away"
    )
    redis_timeout_ms: float = Field(50.0, gt=0, le=5_000, description="how long that may take")
    decision_queue_bytes: int = Field(64 * 2**20, ge=2**16, description="of decisions in memory until they are logged")
    decision_disk_bytes: int = Field(
        2**30, ge=2**16, description="of decisions on disk: kept, or waiting for the broker"
    )
    decision_free_bytes: int = Field(256 * 2**20, ge=0, description="left free on the disk: events need room too")
    outcome_pages: int = Field(
        50_000, ge=1, le=10_000_000, description="newest answers that events are attributed to, about 0.6 KB each"
    )
    body_s: float = Field(10.0, gt=0, description="how long a request's body may take to arrive")

    def budget_s(self, stage: str, requests: int = 1) -> float:
        """Seconds that `stage` may take for a batch of `requests`."""
        one_ms: float = getattr(self, f"{stage}_budget_ms")
        return one_ms * MS * max(1.0, requests / 4)

    def call_s(self, stage: str) -> float:
        """Seconds after which a client gives up a call to the stage's service. Only calls outside any budget end by it: it
        is not less than a write's, nor than the stage's for the largest batch."""
        return max(self.budget_s("write"), self.budget_s(stage, MAX_USERS))
