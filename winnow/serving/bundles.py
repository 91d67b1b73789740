"""Follows a bundle's champion alias: fetch, open, load beside the old one, switch between two requests.

A bundle that fails its own checks is refused: one log line and one count, the old one keeps serving, and the same
version is not looked at again for minutes. A registry that is away costs nothing but the next update.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import Counter, Gauge

from winnow.artifacts import Bundle, Kind, open_bundle
from winnow.errors import BundleRefused, WinnowError
from winnow.registry import Registry, Version

M = TypeVar("M")

log = logging.getLogger(__name__)

AGAIN_S = 300.0  # until a version that was refused or could not be fetched is tried again

UPDATES = Counter("winnow_bundle_updates", "Attempts to serve another bundle", ["kind", "outcome"])
SERVING = Gauge("winnow_bundle_serving", "1 for the bundle that serves now", ["kind", "bundle"])


class BundleFollower(Generic[M]):
    """Keeps one kind of bundle current. `load` runs in a thread and may raise BundleRefused; `use` runs on the event
    loop and must not take long."""

    def __init__(self, registry: Registry, kind: Kind, load: Callable[[Bundle], M], use: Callable[[M], None]) -> None:
        self._registry = registry
        self._kind = kind
        self._load = load
        self._use = use
        self._serving: Version | None = None
        self._bundle = ""
        self._failed: Version | None = None
        self._failed_at = 0.0

    async def look(self) -> bool:
        """Look once; True when another bundle serves now."""
        try:
            version = await asyncio.to_thread(self._registry.champion, self._kind)
        except WinnowError as away:
            log.warning("registry cannot be asked for the %s bundle: %s", self._kind, away)
            return False
        if version is None or version == self._serving or self._failed_lately(version):
            return False
        try:
            bundle, model = await asyncio.to_thread(self._open, version)
        except WinnowError as wrong:
            self._note_failure(version, wrong)
            return False
        self._use(model)
        self._note_success(version, bundle)
        return True

    def _open(self, version: Version) -> tuple[Bundle, M]:
        bundle = open_bundle(self._registry.fetch(version), self._kind)
        if version.bundle and version.bundle != bundle.id:
            raise BundleRefused(
                f"version {version.number} should hold bundle {version.bundle}, its files are {bundle.id}"
            )
        return bundle, self._load(bundle)

    def _failed_lately(self, version: Version) -> bool:
        return version == self._failed and time.monotonic() < self._failed_at + AGAIN_S

    def _note_failure(self, version: Version, wrong: WinnowError) -> None:
        self._failed, self._failed_at = version, time.monotonic()
        outcome = "refused" if isinstance(wrong, BundleRefused) else "failed"
        UPDATES.labels(self._kind, outcome).inc()
        kept = f"bundle {self._bundle} keeps serving" if self._bundle else "nothing serves yet"
        log.error("%s version %s %s, %s: %s", self._kind, version.number, outcome, kept, wrong)

    def _note_success(self, version: Version, bundle: Bundle) -> None:
        if self._bundle:
            SERVING.remove(self._kind, self._bundle)
        self._serving, self._bundle, self._failed = version, bundle.id, None
        SERVING.labels(self._kind, bundle.id).set(1)
        UPDATES.labels(self._kind, "ok").inc()
        log.info("%s version %s serves: bundle %s", self._kind, version.number, bundle.id)


async def follow_bundle(
    registry: Registry, kind: Kind, load: Callable[[Bundle], M], use: Callable[[M], None], every_s: float = 2.0
) -> None:
    """Keep one kind of bundle current for ever, looking every `every_s` seconds."""
    follower = BundleFollower(registry, kind, load, use)
    while True:
        await follower.look()
        await asyncio.sleep(every_s)
