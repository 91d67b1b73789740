"""`winnow rules`: what a shop says of its pages. `publish` checks rules against each other over the home's catalogue and puts
them where gateways look; every version that ever counted is kept beside them, by the name that decisions call it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cli.audited import audited
from cli.console import note, show, table
from cli.homes import AsJson, Data, HomeOption, home_of
from cli.rule_pages import LIMIT_S, contradictions
from cli.whole_file import replaced
from services.gateway.rules import FILE, MAX_FILE_BYTES, Block, Filtered, Rules, parse
from services.gateway.watched import Watched
from winnow.canonical import ITEMS, items_of
from winnow.catalogue import Catalogue
from winnow.errors import FailedPrecondition, NotFound
from winnow.home import items_folder, rules_folder
from winnow.segments import parts

app = typer.Typer(help="Check, publish and show a shop's rules for its pages.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="A JSON file of rules (docs/rules.md).", dir_okay=False)]


@app.command("check")
def check(file: File, data: Data = "ml-100k", home: HomeOption = None) -> None:
    """Say what is wrong with the rules of a file, over the catalogue of a home. Ends with 1 where something is."""
    rules = checked(file, home_of(data, home))
    note(f"{file}: {counted(rules)}, no contradiction found")


@app.command("publish")
def publish(file: File, data: Data = "ml-100k", home: HomeOption = None) -> None:
    """Check rules and let them count: gateways over the home take them up within seconds. An empty set ends all."""
    place = home_of(data, home)
    rules = checked(file, place)
    folder = rules_folder(place)
    content = json.dumps(rules.content, ensure_ascii=False, separators=(",", ":")) + "\n"
    if len(content.encode()) > MAX_FILE_BYTES:
        raise FailedPrecondition(
            f"{file}: written out it has more than the {MAX_FILE_BYTES:,} bytes that gateways read"
        )
    with audited(place, "rules.publish", version=rules.version, rules=[rule.name for rule in rules.file.rules]):
        folder.mkdir(parents=True, exist_ok=True)
        if rules.version:
            replaced(folder / f"{rules.version}.json", content)
        replaced(folder / FILE, content)
    note(f"{counted(rules)} as version {rules.version or '(none)'}: {folder / FILE}")


@app.command("show")
def shown(data: Data = "ml-100k", home: HomeOption = None, as_json: AsJson = False) -> None:
    """The rules that count, and when."""
    file = rules_folder(home_of(data, home)) / FILE
    if not file.exists():
        raise NotFound(f"no rules were published: {file} is not there", field="--home")
    rules = parse(Watched(file, MAX_FILE_BYTES).read(), str(file))
    rows = table(f"rules, version {rules.version or '(none)'}", "rule", "does", "to", "in", "where", "when")
    for rule, body in zip(rules.file.rules, rules.content["rules"], strict=True):
        rows.add_row(rule.name, *told(body, rule.lists))
    show({"version": rules.version, **rules.content}, rows, as_json)


def checked(file: Path, home: Path) -> Rules:
    """FailedPrecondition with everything that contradicts itself."""
    if not file.exists():
        raise NotFound(f"{file} is not there", field="FILE")
    rules = parse(Watched(file, MAX_FILE_BYTES).read(), str(file))
    if not items_folder(home).exists():
        raise NotFound(f"{home} has no catalogue to check the rules over: winnow ingest makes one", field="--home")
    catalogue = Catalogue()
    for page in parts(items_folder(home), ITEMS):
        catalogue.upsert(items_of(page))
    verdict = contradictions(rules.file.rules, catalogue, LIMIT_S)
    if found := verdict.said:
        raise FailedPrecondition("; ".join([f"{file}: {found[0]}", *found[1:]]))
    if n := verdict.undecided:
        sets = f"{n} set{'' if n == 1 else 's'} of rules that count at once"
        note(f"within {LIMIT_S:g} s it was not found out whether {sets} can be kept")
    for rule in rules.file.rules:
        if isinstance(rule, Filtered):
            matching = int(np.count_nonzero(catalogue.mask(rule.tree)))
            if not matching:
                note(f"{rule.name} matches no item of {len(catalogue):,}")
            elif matching == len(catalogue) and isinstance(rule, Block):
                note(f"{rule.name} blocks every item: where it counts, pages are empty")
    return rules


def counted(rules: Rules) -> str:
    n = len(rules.file.rules)
    return f"{n} rule{'' if n == 1 else 's'}"


def told(body: Mapping[str, Any], lists: Sequence[str]) -> tuple[str, str, str, str, str]:
    """What a rule does, to what, in which lists, where, when."""
    kind, of = body["kind"], body.get("filter", body.get("item_id", ""))
    how = {"boost": "strength", "quota": "at_least", "pin": "place"}.get(kind, "")
    does = [kind, *(f"{name} {body[name]}" for name in (how, "at_most") if name in body)]
    where = [word for name in ("surfaces", "devices", "countries") for word in body.get(name, ())]
    when = [f"{word} {body[name]}" for word, name in (("from", "starts_at"), ("until", "ends_at")) if name in body]
    of_what = of if isinstance(of, str) else json.dumps(of, ensure_ascii=False)
    return " ".join(does), of_what, ", ".join(lists), ", ".join(where) or "anywhere", ", ".join(when) or "always"
