"""The retrieval service as a process."""

from __future__ import annotations

from services.retrieval.build import build, build_sharded, follow
from services.retrieval.settings import Settings
from winnow.catalogue import Catalogue
from winnow.catalogue import follow as follow_catalogue
from winnow.serving.connect import connect
from winnow.serving.identity import Inside
from winnow.serving.process import Process, after, start
from winnow.wire import retrieval as wire
from winnow.wire.feature import FeatureClient
from winnow.wire.retrieval import RetrievalClient

PAGE = 1_000  # items of one message: with the widest vectors they are 8 MB


async def process(settings: Settings) -> Process:
    own = settings.inside("retrieval")
    if settings.shard_addresses:
        return over_shards(settings, own)
    features = FeatureClient(connect(settings.feature_address, own, "feature"), timeout_s=5.0)
    catalogue = Catalogue(images=True)
    retrieval = build(settings, catalogue)
    return Process(
        grpc=[wire.register(retrieval)],
        grpc_address=settings.retrieval_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[
            follow_catalogue(catalogue, features, retrieval.changed, page=PAGE),
            after(catalogue.complete, lambda: follow(settings, retrieval)),
        ],
        close=[retrieval.close],
    )


def over_shards(settings: Settings, own: Inside | None) -> Process:
    """Other processes' parts as one service: no model here, no catalogue."""
    timeout_s = settings.retrieval_shard_budget_ms / 1000
    shards = {
        name: RetrievalClient(connect(address, own, "retrieval"), timeout_s=timeout_s)
        for name, address in settings.shard_addresses.items()
    }
    return Process(
        grpc=[wire.register(build_sharded(settings, shards))],
        grpc_address=settings.retrieval_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[],
        close=[],
    )


if __name__ == "__main__":
    start("The retrieval service: finds the few hundred items worth ranking.", Settings, process)
