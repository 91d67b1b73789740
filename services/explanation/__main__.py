"""The explanation service as a process."""

from __future__ import annotations

from services.explanation.build import build, follow
from services.explanation.settings import Settings
from winnow.catalogue import Catalogue, Rows
from winnow.catalogue import follow as follow_catalogue
from winnow.serving.connect import connect
from winnow.serving.process import Process, start
from winnow.wire import explanation as wire
from winnow.wire.feature import FeatureClient


async def process(settings: Settings) -> Process:
    own = settings.inside("explanation")
    features = FeatureClient(connect(settings.feature_address, own, "feature"), timeout_s=5.0)
    catalogue = Catalogue()
    explanation = build(settings, catalogue)
    return Process(
        grpc=[wire.register(explanation)],
        grpc_address=settings.explanation_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[follow_catalogue(catalogue, features, ignore), follow(settings, explanation)],
    )


def ignore(rows: Rows) -> None:
    """Facts are read from the catalogue itself."""


if __name__ == "__main__":
    start("The explanation service: says why.", Settings, process)
