"""The gate between a trained version and the champion's place.

A version that has served before may always serve again (that is the rollback). Any other is compared with the champion
by `training.gate`; one that is worse beyond noise is refused unless somebody says why it should serve nevertheless.
Verdict, reason and time stay with the version in MLflow. The gate stands in Winnow's own commands: whoever moves the
alias in MLflow decides for themselves, with the verdict before their eyes.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.models import Workshop, retrieval_service
from winnow.artifacts import Bundle, open_bundle
from winnow.errors import FailedPrecondition
from winnow.home import DATASET
from winnow.registry import CHALLENGER, MlflowRegistry, Version, model_name

if TYPE_CHECKING:
    from training.gate import Columns, GateSettings, Verdict
    from training.questions import Question
    from winnow.types import Candidates

VERDICT, FORCED, PROMOTED = "winnow.verdict", "winnow.forced", "winnow.promoted"


def pass_gate(workshop: Workshop, registry: MlflowRegistry, version: Version, force: str = "") -> str:
    """Make `version` the champion, or raise FailedPrecondition with the figures that speak against it. Returns the
    verdict in words; `force` is the reason for ignoring a bad one."""
    words = "served before"
    if PROMOTED not in registry.notes(version):
        words = judged(workshop, registry, version, force)
    registry.promote(version)
    registry.note(version, PROMOTED, datetime.now(UTC).isoformat(timespec="seconds"))
    return words


def release(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> str:
    """Register a bundle and lead it through the gate. One that is registered already is left as it is: whoever moved
    the alias since meant it; "" then, else the verdict."""
    known = {version.bundle for version in registry.versions(bundle.kind)}
    if bundle.id in known and registry.champion(bundle.kind) is not None:
        return ""
    return pass_gate(workshop, registry, entered(workshop, registry, bundle))


def entered(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> Version:
    """The version of a bundle, registered and marked as the challenger."""
    version = registry.register(bundle, {"preset": workshop.preset, "seed": workshop.seed})
    registry.promote(version, CHALLENGER)
    return version


def judged(workshop: Workshop, registry: MlflowRegistry, version: Version, force: str = "") -> str:
    """The verdict on a version that never served, noted with it."""
    champion = registry.champion(version.kind)
    if champion is None or champion.number == version.number:
        return "there is no champion to compare with"
    if force and not (workshop.home / DATASET).is_file():
        registry.note(version, FORCED, force)
        return "not compared"
    verdict = compare(workshop, registry, champion, version)
    registry.note(version, VERDICT, str(verdict))
    if verdict.worse and not force:
        raise FailedPrecondition(
            f"{model_name(version.kind)} version {version.number} is {verdict}. "
            'To promote it nevertheless say why: --force "the reason"'
        )
    if verdict.worse:
        registry.note(version, FORCED, force)
    return str(verdict)


def compare(workshop: Workshop, registry: MlflowRegistry, champion: Version, challenger: Version) -> Verdict:
    """Ask both the same held-out questions, in this process."""
    from training.gate import GateSettings, compared, held_out

    if not (workshop.home / DATASET).is_file():
        raise FailedPrecondition(
            f"{workshop.home} holds no data set to compare on; run winnow ingest first, or give a reason with --force"
        )
    settings = GateSettings()
    asked = held_out(workshop.dataset, workshop.parts, settings)
    bundles = [open_bundle(registry.fetch(version), version.kind) for version in (champion, challenger)]
    if champion.kind == "retrieval":
        columns = [retrieval_columns(workshop, bundle, asked, settings) for bundle in bundles]
    else:
        found = shown(workshop, registry, asked, settings)
        columns = [ranking_columns(workshop, bundle, asked, found, settings) for bundle in bundles]
    return compared((bundles[0].id, bundles[1].id), *columns)


def retrieval_columns(workshop: Workshop, bundle: Bundle, asked: list[Question], settings: GateSettings) -> Columns:
    from training.gate import measured_retrieval

    with retrieval_service(workshop.dataset, bundle) as retrieval:
        return asyncio.run(measured_retrieval(asked, retrieval, settings))


def shown(
    workshop: Workshop, registry: MlflowRegistry, asked: list[Question], settings: GateSettings
) -> list[Candidates]:
    """What the serving retrieval would show."""
    from cli.models import champion_bundle
    from training.gate import candidates_of

    with retrieval_service(workshop.dataset, champion_bundle(registry, "retrieval")) as retrieval:
        return asyncio.run(candidates_of(asked, retrieval, settings))


def ranking_columns(
    workshop: Workshop, bundle: Bundle, asked: list[Question], found: list[Candidates], settings: GateSettings
) -> Columns:
    from services.ranking.build import build, load_bundle
    from services.ranking.settings import Settings
    from training.gate import measured_ranking
    from winnow.catalogue import Catalogue

    catalogue = Catalogue()
    catalogue.upsert(workshop.dataset.items)
    with closing(build(Settings(), catalogue)) as ranking:
        ranking.use(load_bundle(ranking, bundle))
        return asyncio.run(measured_ranking(asked, found, ranking, settings))
