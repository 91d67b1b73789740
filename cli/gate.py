"""The gate between a trained version and the champion's place.

A version that has served before may always serve again (that is the rollback). Any other is compared with the champion
by `training.gate`; one that is worse beyond noise is refused unless somebody says why it should serve nevertheless.
A refresh knows the acts that the questions are about, so it is judged as it would have been before them.
Verdict, reason and time stay with the version in MLflow. The gate stands in Winnow's own commands: whoever moves the
alias in MLflow decides for themselves, with the verdict before their eyes.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.models import Workshop, champion_bundle, retrieval_service
from cli.stamps import key_of
from winnow.artifacts import REFRESH_OF, Bundle, file_hashes, open_bundle
from winnow.errors import FailedPrecondition
from winnow.home import DATASET
from winnow.registry import CHALLENGER, MlflowRegistry, Version, model_name

if TYPE_CHECKING:
    from training.gate import GateSettings, Verdict
    from training.intervals import Columns
    from training.questions import Question
    from winnow.types import Candidates

VERDICT, FORCED, PROMOTED = "winnow.verdict", "winnow.forced", "winnow.promoted"


class Worse(FailedPrecondition):
    """A challenger is worse than the champion beyond noise."""


def pass_gate(workshop: Workshop, registry: MlflowRegistry, version: Version, force: str = "") -> str:
    """Make `version` the champion, or raise FailedPrecondition with the figures that speak against it. Returns the
    verdict in words; `force` is the reason for ignoring a bad one."""
    words = "served before"
    if PROMOTED not in registry.notes(version):
        words = judged(workshop, registry, version, force)
    take_over(registry, version)
    return words


def take_over(registry: MlflowRegistry, version: Version) -> None:
    """From now on this version serves, and may always serve again."""
    registry.promote(version)
    registry.note(version, PROMOTED, datetime.now(UTC).isoformat(timespec="seconds"))


def release(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> str:
    """Register a bundle and lead it through the gate. One that is registered already is left as it is: whoever moved
    the alias since meant it; "" then, else the verdict."""
    known = {version.bundle for version in registry.versions(bundle.kind)}
    if bundle.id in known and registry.champion(bundle.kind) is not None:
        return ""
    return pass_gate(workshop, registry, entered(workshop, registry, bundle))


def entered(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> Version:
    """The version of a bundle, registered and marked as the challenger."""
    version = registered(workshop, registry, bundle)
    registry.promote(version, CHALLENGER)
    return version


def registered(workshop: Workshop, registry: MlflowRegistry, bundle: Bundle) -> Version:
    """The version of a bundle, with all that says what it was made of."""
    made_of = {"preset": workshop.preset, "seed": workshop.seed, **contents(bundle)}
    return registry.register(bundle, made_of)


def contents(bundle: Bundle) -> dict[str, str]:
    """Feature schemas and hashes of a bundle, by the names that MLflow shows; its data are tags already."""
    schemas = dict(bundle.facts.get("schemas", {}))
    found = {f"schema.{side}": key_of(json.dumps(schema, sort_keys=True)) for side, schema in schemas.items()}
    found |= {f"features.{side}": " ".join(schema["names"]) for side, schema in schemas.items()}
    return found | {f"sha256.{name}": digest for name, digest in file_hashes(bundle).items()}


def judged(
    workshop: Workshop, registry: MlflowRegistry, version: Version, force: str = "", over: Bundle | None = None
) -> str:
    """The verdict on a version that never served, noted with it; Worse when it is. A ranker is asked over the
    candidates of `over`, where it is given, else of the retrieval that serves."""
    champion = registry.champion(version.kind)
    if champion is None or champion.number == version.number:
        return "there is no champion to compare with"
    if force and not (workshop.home / DATASET).is_file():
        registry.note(version, FORCED, force)
        return "not compared"
    verdict = compare(workshop, registry, champion, version, over)
    registry.note(version, VERDICT, str(verdict))
    if verdict.worse and not force:
        raise Worse(
            f"{model_name(version.kind)} version {version.number} is {verdict}. "
            'To promote it nevertheless say why: --force "the reason"'
        )
    if verdict.worse:
        registry.note(version, FORCED, force)
    return str(verdict)


def compare(
    workshop: Workshop,
    registry: MlflowRegistry,
    champion: Version,
    challenger: Version,
    over: Bundle | None = None,
) -> Verdict:
    """Ask both the same held-out questions, in this process."""
    from training.gate import GateSettings, compared, held_out

    if not (workshop.home / DATASET).is_file():
        raise FailedPrecondition(
            f"{workshop.home} holds no data set to compare on; run winnow ingest first, or give a reason with --force"
        )
    settings = GateSettings()
    asked = held_out(workshop.dataset, workshop.parts, settings)
    bundles = [open_bundle(registry.fetch(version), version.kind) for version in (champion, challenger)]
    names = (str(bundles[1].data.get(REFRESH_OF, bundles[0].id)), bundles[1].id)
    if champion.kind == "retrieval":
        fair = before_the_questions(workshop, registry, *bundles)
        columns = [retrieval_columns(workshop, bundle, asked, settings) for bundle in fair]
    else:
        found = shown(workshop, over or champion_bundle(registry, "retrieval"), asked, settings)
        columns = [ranking_columns(workshop, bundle, asked, found, settings) for bundle in bundles]
    return compared(names, *columns)


def before_the_questions(
    workshop: Workshop, registry: MlflowRegistry, champion: Bundle, challenger: Bundle
) -> tuple[Bundle, Bundle]:
    """Two retrieval bundles that know none of the answers.

    A refresh is held against the trained bundle whose towers it has: against the refresh before it there would be
    nothing to measure. A trained bundle is held against a champion whose tables know what its own know.
    """
    parts = workshop.parts
    if REFRESH_OF not in challenger.data:
        return workshop.rewound(champion, parts.train), challenger
    trained = [one for one in registry.versions("retrieval") if one.bundle == challenger.data[REFRESH_OF]]
    against = open_bundle(registry.fetch(trained[0]), "retrieval") if trained else champion
    known = parts.train | parts.rank
    return workshop.rewound(against, known), workshop.rewound(challenger, known)


def retrieval_columns(workshop: Workshop, bundle: Bundle, asked: list[Question], settings: GateSettings) -> Columns:
    from training.gate import measured_retrieval

    with retrieval_service(workshop.dataset, bundle) as retrieval:
        return asyncio.run(measured_retrieval(asked, retrieval, settings))


def shown(workshop: Workshop, over: Bundle, asked: list[Question], settings: GateSettings) -> list[Candidates]:
    """What this retrieval would have shown."""
    from training.gate import candidates_of

    with retrieval_service(workshop.dataset, workshop.rewound(over, workshop.parts.train)) as retrieval:
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
