"""What the audit log says of an answer, and of a write to the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import orjson

from winnow.audit.asked import Asked
from winnow.audit.pseudonyms import Pseudonyms
from winnow.audit.record import ANSWER, Entry
from winnow.decisions import Decision
from winnow.image_vectors import FIELD as IMAGE
from winnow.types import Item

CATALOGUE_WRITE = "catalogue.write"


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision, its line in the decision log, and who asked for it."""

    decision: Decision
    line: bytes
    asked: Asked


def answers_of(batch: Sequence[Answered], names: Pseudonyms) -> list[Entry]:
    return [answer_of(one, names) for one in batch]


def answer_of(one: Answered, names: Pseudonyms) -> Entry:
    """The decision's line holds the answer and all that it was chosen from: the record holds its digest."""
    decision = one.decision
    return Entry(
        ANSWER,
        {
            "request_id": decision.request_id,
            "who": one.asked.who,
            "route": one.asked.route,
            "verb": decision.kind,
            "person": names.of(decision.user.person),
            "key": names.name,
            "variant": decision.variant,
            "bundles": dict(decision.watermarks.bundles),
            "skipped": decision.skipped,
            "shown": len(decision.rows),
            "decision": sha256(one.line).hexdigest(),
        },
        decision.at,
    )


def written_items(items: Sequence[Item]) -> dict[str, Any]:
    """How many, the first of them, and a digest of all their facts in this order."""
    digest = sha256()
    for item in items:
        digest.update(orjson.dumps(facts_of(item)))
        digest.update(item.image_vector)
    return {"items": len(items), "first": items[0].item_id, "digest": digest.hexdigest()}


def facts_of(item: Item) -> dict[str, Any]:
    """What JSON can say of an item, in the order of its fields, attributes by name."""
    facts = {field.name: getattr(item, field.name) for field in fields(item) if field.name != IMAGE}
    return facts | {"attributes": dict(sorted(item.attributes.items()))}
