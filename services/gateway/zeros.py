"""What a gateway counts, shown from the start at 0: the first skipped stage or failed answer is then a rise, not a birth."""

from __future__ import annotations

from services.gateway.inner import EXPLANATION, FEATURE, RANKING, RETRIEVAL, STAND_IN
from services.gateway.settings import Settings
from winnow.serving.backends import KAFKA, REDIS, expect
from winnow.serving.telemetry import (
    DECISIONS,
    DECISIONS_DROPPED,
    EVENTS,
    HTTP_REQUESTS,
    STAGE_SKIPPED,
    UNAUDITED,
    begin,
)

ROUTES = ("/v1/recommendations", "/v1/events")
STATUSES = ("200", "422", "500", "503")
REASONS = ("queue_full", "disk_full", "spool_full", "disk_failed", "too_large", "damaged")
MISSED = ("queue_full", "disk_full", "disk_failed")


def begin_at_zero(settings: Settings) -> None:
    """Of what these settings make possible."""
    stages = (FEATURE, RETRIEVAL, RANKING, EXPLANATION, *([STAND_IN] if settings.redis_url else []))
    begin(STAGE_SKIPPED, stage=stages)
    begin(EVENTS, outcome=("accepted", "duplicate"))
    begin(HTTP_REQUESTS, route=ROUTES, status=STATUSES)
    begin(DECISIONS, to=("broker", "disk") if settings.kafka_bootstrap else ("disk",))
    begin(DECISIONS_DROPPED, reason=REASONS)
    if settings.audit:
        begin(UNAUDITED, reason=MISSED)
    if settings.redis_url:
        expect(REDIS, ["read_states"])
    if settings.kafka_bootstrap:
        expect(KAFKA, ["connect", "produce"])
