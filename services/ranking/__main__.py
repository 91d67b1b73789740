"""The ranking service as a process."""

from __future__ import annotations

from services.ranking.build import build, follow
from services.ranking.settings import Settings
from winnow.catalogue import Catalogue
from winnow.catalogue import follow as follow_catalogue
from winnow.item_changes import follow_changes
from winnow.serving.connect import connect
from winnow.serving.process import Process, after, start
from winnow.wire import ranking as wire
from winnow.wire.feature import FeatureClient


async def process(settings: Settings) -> Process:
    own = settings.inside("ranking")
    features = FeatureClient(connect(settings.feature_address, own, "feature"), timeout_s=5.0)
    catalogue = Catalogue()
    ranking = build(settings, catalogue)
    return Process(
        grpc=[wire.register(ranking)],
        grpc_address=settings.ranking_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[
            follow_catalogue(catalogue, features, ranking.changed),
            follow_changes(settings.redis_url, catalogue.told),
            after(catalogue.complete, lambda: follow(settings, ranking)),
        ],
        close=[ranking.close],
    )


if __name__ == "__main__":
    start("The ranking service: predicts what a person would do with each candidate.", Settings, process)
