"""The retrieval service as a process."""

from __future__ import annotations

from services.retrieval.build import build, follow
from services.retrieval.settings import Settings
from winnow.catalogue import Catalogue
from winnow.catalogue import follow as follow_catalogue
from winnow.serving.connect import connect
from winnow.serving.process import Process, after, start
from winnow.wire import retrieval as wire
from winnow.wire.feature import FeatureClient


async def process(settings: Settings) -> Process:
    own = settings.inside("retrieval")
    features = FeatureClient(connect(settings.feature_address, own, "feature"), timeout_s=5.0)
    catalogue = Catalogue()
    retrieval = build(settings, catalogue)
    return Process(
        grpc=[wire.register(retrieval)],
        grpc_address=settings.retrieval_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[
            follow_catalogue(catalogue, features, retrieval.changed),
            after(catalogue.complete, lambda: follow(settings, retrieval)),
        ],
        close=[retrieval.close],
    )


if __name__ == "__main__":
    start("The retrieval service: finds the few hundred items worth ranking.", Settings, process)
