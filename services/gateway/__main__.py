"""The gateway as a process: REST and gRPC, its four peers over gRPC."""

from __future__ import annotations

from services.gateway.build import build, face, hot_states, remember
from services.gateway.let_in import gate
from services.gateway.settings import Settings
from winnow.catalogue import Catalogue, Rows, follow
from winnow.serving.connect import connect
from winnow.serving.process import Process, start
from winnow.wire import gateway as wire
from winnow.wire.explanation import ExplanationClient
from winnow.wire.feature import FeatureClient
from winnow.wire.ranking import RankingClient
from winnow.wire.retrieval import RetrievalClient


async def process(settings: Settings) -> Process:
    own, face_tls = settings.inside("gateway"), settings.face()
    call_s = settings.call_s
    features = FeatureClient(connect(settings.feature_address, own, "feature"), timeout_s=call_s("feature"))
    retrieval = RetrievalClient(connect(settings.retrieval_address, own, "retrieval"), timeout_s=call_s("retrieval"))
    ranking = RankingClient(connect(settings.ranking_address, own, "ranking"), timeout_s=call_s("ranking"))
    explanation = ExplanationClient(
        connect(settings.explanation_address, own, "explanation"), timeout_s=call_s("explanation")
    )
    catalogue = Catalogue()
    stand_in = hot_states(settings)
    gateway = build(settings, catalogue, features, retrieval, ranking, explanation, stand_in)
    guard = gate(settings)
    return Process(
        grpc=[wire.register(gateway)],
        grpc_address=settings.gateway_address,
        http=face(settings, gateway, guard),
        http_address=settings.rest_address,
        guard=guard,
        limits=settings.limits(settings.max_body_bytes, settings.body_s),
        loops=[
            follow(catalogue, features, ignore),
            remember(settings, gateway, retrieval),
            gateway.decisions.run(),
            gateway.rules.follow(),
            *([guard.follow()] if guard else []),
        ],
        close=[part.close for part in (stand_in, guard) if part],
        grace_s=settings.grace_s,
        serving=settings,
        tls=face_tls,
        identities=[own, face_tls],
    )


def ignore(rows: Rows) -> None:
    """The gateway keeps no table beside the catalogue."""


if __name__ == "__main__":
    start("The gateway: REST and gRPC over the four inner services.", Settings, process)
