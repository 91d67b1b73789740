"""The feature service as a process."""

from __future__ import annotations

from services.feature.build import build
from services.feature.settings import Settings
from winnow.serving.process import Process, start
from winnow.wire import feature as wire


async def process(settings: Settings) -> Process:
    own = settings.inside("feature")
    features = build(settings)
    return Process(
        grpc=[wire.register(features)],
        grpc_address=settings.feature_address,
        serving=settings,
        tls=own,
        identities=[own],
        loops=[features.keep_hot(), features.forward()],
        close=[features.close],
    )


if __name__ == "__main__":
    start("The feature service: knows people and items, takes every event.", Settings, process)
