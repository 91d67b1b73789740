"""Administrative acts of the command line, in the audit log of the home that they change: said before they begin, and how
they ended. One that cannot be said does not take place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from winnow.artifacts import Bundle
from winnow.audit.acts import Act, Audit, Unaudited
from winnow.audit.asked import Asked, operator
from winnow.audit.ledger import ledger
from winnow.audit.settings import AuditSettings
from winnow.registry import CHAMPION, MlflowRegistry, Version, model_name

WRITER = "cli"


@contextmanager
def audited(home: Path, kind: str, **about: Any) -> Iterator[Act]:
    """One act over a home, by whoever runs this command. Unavailable, DiskFull: it cannot be recorded;
    OSError: the home cannot be made."""
    settings = AuditSettings(home=home)
    if settings.audit:
        home.mkdir(parents=True, exist_ok=True)  # a home that cannot be is named as such, not as a log that cannot be
    audit: Audit = ledger(settings, WRITER) if settings.audit else Unaudited()
    try:
        with audit.act(kind, Asked(operator(), "command line"), about) as act:
            yield act
    finally:
        audit.close()


class AuditedRegistry(MlflowRegistry):
    """A home's registry whose every change is an act. What MLflow's own pages change is not seen here: the bundles named
    in answers say what served."""

    def __init__(self, home: Path, uri: str, cache: Path) -> None:
        super().__init__(uri, cache)
        self._home = home

    def register(self, bundle: Bundle, params: Mapping[str, Any] | None = None) -> Version:
        with audited(self._home, "model.register", model=model_name(bundle.kind), bundle=bundle.id) as act:
            version = super().register(bundle, params)
            act.told["version"] = version.number
            return version

    def promote(self, version: Version, alias: str = CHAMPION) -> None:
        before = self.holder(version.kind, alias)
        was = before.number if before else None
        with audited(self._home, "model.alias", alias=alias, was=was, **named(version)):
            super().promote(version, alias)

    def note(self, version: Version, tag: str, text: str) -> None:
        """Verdicts, and the reasons for which one was overridden (`winnow.forced`)."""
        with audited(self._home, "model.tag", tag=tag, text=text, **named(version)):
            super().note(version, tag, text)

    def forget(self, version: Version) -> None:
        with audited(self._home, "model.forget", **named(version)):
            super().forget(version)


def named(version: Version) -> dict[str, str]:
    return {"model": model_name(version.kind), "version": version.number, "bundle": version.bundle}
