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

from winnow.artifacts import Bundle, Kind, open_bundle
from winnow.errors import BundleRefused, WinnowError
from winnow.registry import Registry, Version
from winnow.serving.telemetry import BUNDLES_REFUSED, show_bundle

M = TypeVar("M")

log = logging.getLogger(__name__)

REFUSED_AGAIN_S = 300.0  # until a refused version is tried again: it is the same bytes
FAILED_AGAIN_S = 10.0  # until a version that could not be fetched is tried again


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
        self._again_at = 0.0  # on the monotonic clock
        self._away = False
        BUNDLES_REFUSED.labels(kind=kind)

    async def look(self) -> bool:
        """Look once; True when another bundle serves now."""
        try:
            version = await asyncio.to_thread(self._registry.champion, self._kind)
        except WinnowError as away:
            if not self._away:
                log.warning("registry cannot be asked for the %s bundle: %s", self._kind, away)
            self._away = True
            return False
        self._away = False
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
        return version == self._failed and time.monotonic() < self._again_at

    def _note_failure(self, version: Version, wrong: WinnowError) -> None:
        refused = isinstance(wrong, BundleRefused)
        self._failed, self._again_at = version, time.monotonic() + (REFUSED_AGAIN_S if refused else FAILED_AGAIN_S)
        if refused:
            BUNDLES_REFUSED.labels(kind=self._kind).inc()
        outcome = "is refused" if refused else "cannot be loaded"
        kept = f"bundle {self._bundle} keeps serving" if self._bundle else "nothing serves yet"
        log.error("%s version %s %s, %s: %s", self._kind, version.number, outcome, kept, wrong)

    def _note_success(self, version: Version, bundle: Bundle) -> None:
        self._serving, self._bundle, self._failed = version, bundle.id, None
        show_bundle(self._kind, version.number, bundle.id, bundle.facts.get("stats_at"))
        log.info("%s version %s serves: bundle %s", self._kind, version.number, bundle.id)


async def follow_bundle(
    registry: Registry, kind: Kind, load: Callable[[Bundle], M], use: Callable[[M], None], every_s: float = 2.0
) -> None:
    """Keep one kind of bundle current for ever, looking every `every_s` seconds."""
    follower = BundleFollower(registry, kind, load, use)
    while True:
        await follower.look()
        await asyncio.sleep(every_s)
