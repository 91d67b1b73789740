"""The platform in one process: five objects handed to each other. This file is the architecture's diagram.

    client ──▶ gateway ──┬──▶ feature       who is this, what did they just do
                         ├──▶ retrieval     candidates from several sources
                         ├──▶ ranking       P(click), P(convert), E[value]
                         └──▶ explanation   why this item

All five share one catalogue, which follows the feature service's item log.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from services.explanation import build as explanation
from services.explanation.service import Templates
from services.explanation.settings import Settings as ExplanationSettings
from services.feature import build as feature
from services.feature.service import FeatureService
from services.feature.settings import Settings as FeatureSettings
from services.gateway import build as gateway
from services.gateway.let_in import gate
from services.gateway.recommender import Gateway
from services.gateway.settings import Settings as GatewaySettings
from services.ranking import build as ranking
from services.ranking.service import RankingService
from services.ranking.settings import Settings as RankingSettings
from services.retrieval import build as retrieval
from services.retrieval.service import RetrievalService
from services.retrieval.settings import Settings as RetrievalSettings
from winnow.catalogue import Catalogue, Rows, follow
from winnow.serving.process import Process, after
from winnow.wire import gateway as wire


class Settings(FeatureSettings, RetrievalSettings, RankingSettings, ExplanationSettings, GatewaySettings):
    """The settings of all five, read once from the environment (`WINNOW_…`)."""


@dataclass(frozen=True)
class Platform:
    """Five services in one process. Nothing runs until its `process` does."""

    settings: Settings

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(images=True)  # retrieval shares it

    @cached_property
    def feature(self) -> FeatureService:
        return feature.build(self.settings)

    @cached_property
    def retrieval(self) -> RetrievalService:
        return retrieval.build(self.settings, self.catalogue)

    @cached_property
    def ranking(self) -> RankingService:
        return ranking.build(self.settings, self.catalogue)

    @cached_property
    def explanation(self) -> Templates:
        return explanation.build(self.settings, self.catalogue)

    @cached_property
    def gateway(self) -> Gateway:
        return gateway.build(
            self.settings, self.catalogue, self.feature, self.retrieval, self.ranking, self.explanation
        )

    def changed(self, rows: Rows) -> None:
        """Rows of the catalogue were written: both services that keep tables beside it are told."""
        self.retrieval.changed(rows)
        self.ranking.changed(rows)

    def process(self) -> Process:
        """REST and gRPC of the gateway, and what runs beside them."""
        face_tls = self.settings.face()
        guard = gate(self.settings)
        return Process(
            grpc=[wire.register(self.gateway)],
            grpc_address=self.settings.gateway_address,
            http=gateway.face(self.settings, self.gateway, guard),
            http_address=self.settings.rest_address,
            guard=guard,
            limits=self.settings.limits(self.settings.max_body_bytes, self.settings.body_s),
            loops=[
                follow(self.catalogue, self.feature, self.changed),
                self.feature.keep_hot(),
                self.feature.forward(),
                after(self.catalogue.complete, lambda: retrieval.follow(self.settings, self.retrieval)),
                after(self.catalogue.complete, lambda: ranking.follow(self.settings, self.ranking)),
                explanation.follow(self.settings, self.explanation),
                gateway.remember(self.settings, self.gateway, self.retrieval),
                self.gateway.decisions.run(),
                self.gateway.rules.follow(),
                *([guard.follow()] if guard else []),
            ],
            close=[self.feature.close, self.retrieval.close, self.ranking.close, *([guard.close] if guard else [])],
            grace_s=self.settings.grace_s,
            serving=self.settings,
            tls=face_tls,
            identities=[face_tls],
        )
