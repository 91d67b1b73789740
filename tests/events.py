"""Feature services, events and states for tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from services.feature.build import build
from services.feature.service import FeatureService
from services.feature.settings import Settings
from winnow.types import Event, EventType, UserState

START = datetime(2026, 1, 1, tzinfo=UTC)


def features(home: Path) -> FeatureService:
    return build(Settings(home=home, segment_bytes=2**16))


def click(event_id: str, item_id: str = "i1", user_id: str = "u1", minute: float = 0, **more: object) -> Event:
    fields = {"type": EventType.CLICK, "session_id": "", **more}
    at = START + timedelta(minutes=minute)
    return Event(event_id=event_id, item_id=item_id, user_id=user_id, occurred_at=at, **fields)  # type: ignore[arg-type]


def parts(state: UserState) -> dict[str, object]:
    """All of a state but its watermark, as things that compare."""
    history = state.history
    return {
        "person": state.person,
        "known": state.known,
        "traits": dict(state.traits),
        "items": list(history.item_ids),
        "types": list(history.types),
        "values": ["none" if np.isnan(value) else float(value) for value in history.values],
        "at": history.at.tolist(),
        "seen": list(state.seen),
        "tail": state.seen_tail.tolist(),
        "events": state.events,
    }
