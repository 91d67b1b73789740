"""`winnow audit`: whether anybody changed the audit log, and what it says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from cli.audited import audited
from cli.console import note, out, show, table
from cli.homes import AsJson, Data, HomeOption, home_of
from winnow.audit.folder import heads_in, segments
from winnow.audit.prune import old_files
from winnow.audit.pseudonyms import pseudonyms
from winnow.audit.record import NoRecord, Read, read
from winnow.audit.settings import AuditSettings
from winnow.audit.signature import Signer, Verifier
from winnow.audit.verify import PRUNE, AllStands, Verdict, chains_in, known_heads, lines, verify_folder
from winnow.errors import FailedPrecondition, InvalidArgument
from winnow.types import Person

app = typer.Typer(help="The audit log: verify it, read it.", no_args_is_help=True, rich_markup_mode=None)

PLACE = ("previous", "chain", "seq", "at", "kind", "phase", "who", "route", "person", "key", "signature", "heads")
SHOWN = 40  # faults in a table

Folder = Annotated[Path | None, typer.Argument(help="The folder of the records; the home's when not given.")]
Bootstrap = Annotated[str, typer.Option("--bootstrap", help="Brokers, host:port,…: check the topic's copy too.")]
PublicKey = Annotated[Path | None, typer.Option("--public-key", help="Ed25519 public key (PEM): check signatures.")]
Heads = Annotated[Path | None, typer.Option("--heads", help="What winnow audit heads --json printed once.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="answer, catalogue.write, model.alias, …; repeatable.")]
Moment = Annotated[str, typer.Option(help="A time, ISO 8601; without a zone it is UTC.")]


def folder_of(folder: Path | None, data: str, home: Path | None) -> Path:
    return folder or AuditSettings(home=home_of(data, home)).records_folder


@app.command("verify")
def verify(
    folder: Folder = None,
    data: Data = "ml-100k",
    home: HomeOption = None,
    bootstrap: Bootstrap = "",
    public_key: PublicKey = None,
    heads: Heads = None,
    as_json: AsJson = False,
) -> None:
    """Find every record that was altered, removed, reordered, doubled or brought in. Exits with 1 when there is one."""
    verifier = Verifier(public_key) if public_key else None
    known: AllStands = known_heads(heads) if heads else {}
    began = time.monotonic()
    verdict = Verdict()
    if bootstrap:
        from winnow.audit.topic import verify_topic

        verdict, newest = verify_topic(bootstrap, verifier=verifier)
        for chain, places in newest.items():
            known.setdefault(chain, {}).update(places)
    root = folder_of(folder, data, home)
    if root.is_dir() or not bootstrap:  # where the topic alone is at hand, it is checked alone
        found = verify_folder(root, verifier=verifier, known=known)
        verdict.reports += found.reports
        verdict.faults += found.faults
    told(verdict, time.monotonic() - began, as_json)


def told(verdict: Verdict, seconds: float, as_json: bool) -> None:
    faults = verdict.every_fault
    hidden = sum(report.more_faults for report in verdict.reports)
    rate = verdict.records / max(seconds, 1e-9)
    document = {
        "records": verdict.records,
        "seconds": round(seconds, 3),
        "records_per_second": round(rate),
        "faults": [asdict(fault) for fault in faults],
        "more_faults": hidden,
        "chains": [{k: v for k, v in asdict(one).items() if k != "faults"} for one in verdict.reports],
    }
    rows = table("faults", "kind", "file", "#line", "#record", "chain", "what")
    for fault in faults[:SHOWN]:
        where = (str(fault.line or ""), str(fault.seq) if fault.seq >= 0 else "")
        rows.add_row(fault.kind.value, escape(fault.file), *where, escape(fault.chain), escape(fault.detail))
    if faults or as_json:
        show(document, rows, as_json)
    for report in verdict.reports:
        for remark in report.notes:
            note(f"{report.chain}: {remark}")
        if report.unaudited:
            note(f"{report.chain}: {report.unaudited} answers are not recorded, as its gaps say")
    note(f"{verdict.records:,} records of {len(verdict.reports)} chains in {seconds:.2f} s: {rate:,.0f} records/s")
    if faults or hidden:
        note(f"{len(faults) + hidden} faults")
        raise typer.Exit(1)
    note("nothing was altered, removed or reordered")


@app.command("heads")
def heads(folder: Folder = None, data: Data = "ml-100k", home: HomeOption = None, as_json: AsJson = False) -> None:
    """Where the chains stand now. Kept elsewhere, it proves later that nothing before was cut off (verify --heads)."""
    found = list(heads_in(folder_of(folder, data, home)))
    if not found:
        raise FailedPrecondition(f"{folder_of(folder, data, home)} holds no audit log")
    rows = table("heads", "chain", "#record", "hash")
    for head in found:
        rows.add_row(head.chain, str(head.seq), head.hash)
    show([asdict(head) for head in found], rows, as_json)


@app.command("show")
def show_records(
    folder: Folder = None,
    data: Data = "ml-100k",
    home: HomeOption = None,
    since: Moment = "",
    until: Moment = "",
    kind: Kinds = None,
    who: Annotated[str, typer.Option(help="Of this principal.")] = "",
    user: Annotated[str, typer.Option(help="About this user: needs the key of the pseudonyms.")] = "",
    session: Annotated[str, typer.Option(help="About this session.")] = "",
    request: Annotated[str, typer.Option(help="Of this request id.")] = "",
    limit: Annotated[int, typer.Option("-n", min=1, max=100_000, help="Records at most, the oldest first.")] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line, as it stands in the log.")] = False,
) -> None:
    """What was answered and done, in the order of time. It does not check anything: winnow audit verify does."""
    chosen = home_of(data, home)
    wanted: dict[str, str] = {"who": who} if who else {}
    if user or session:
        file = AuditSettings(home=chosen).pseudonym_file
        if not file.exists():
            raise FailedPrecondition(f"{file}: without this key nobody can be found by an id")
        wanted["person"] = pseudonyms(file).of(Person(user, session))
    span = (moment(since, "since"), moment(until, "until"))
    found = islice(matching(folder_of(folder, data, home), wanted, set(kind or ()), request, *span), limit)
    if as_json:
        for line, _ in found:
            sys.stdout.write(line.decode() + "\n")
        return
    rows = table("audit log", "at", "kind", "who", "route", "person", "what")
    for _, record in found:
        rows.add_row(*(escape(cell) for cell in cells(record)))
    out.print(rows)


@app.command("prune")
def prune(
    before: Annotated[str, typer.Argument(help="A time, ISO 8601: files whose records are all older go.")],
    data: Data = "ml-100k",
    home: HomeOption = None,
    as_json: AsJson = False,
) -> None:
    """Take the oldest files away, and say so in the log: it then still verifies. The newest file of a chain stays."""
    chosen = home_of(data, home)
    settings = AuditSettings(home=chosen)
    if not settings.audit:
        raise FailedPrecondition("WINNOW_AUDIT is off: what goes could not be recorded, so nothing is taken away")
    root = settings.records_folder
    limit = moment(before, "before")
    assert limit is not None
    # what is repeated below gets our signature: a prune that nobody signed must not
    verifier = Signer(settings.audit_key_file).verifier if settings.audit_key_file else None
    verdict = verify_folder(root, verifier=verifier)
    if verdict.every_fault:
        raise FailedPrecondition("the audit log does not verify: nothing is taken away; run winnow audit verify")
    old = old_files(root, limit)
    heads = {one.last.chain: [one.last.seq, one.last.hash] for one in old}
    files = [file for one in old for file in one.files]
    if files:
        with audited(chosen, PRUNE, before=limit.isoformat(), heads={**verdict.pruned, **heads}):
            for file in files:
                file.unlink()
    rows = table("taken away", "chain", "#files", "#up to record")
    for one in old:
        rows.add_row(one.last.chain, str(len(one.files)), str(one.last.seq))
    show({"files": len(files), "upto": heads}, rows, as_json)


def matching(
    root: Path, wanted: dict[str, str], kinds: set[str], request: str, since: datetime | None, until: datetime | None
) -> Iterator[tuple[bytes, Read]]:
    """The records of all chains, by their time. Those that cannot be read are left out."""
    chains = [records_of(folder) for folder in chains_in(root)]
    for line, record in merge(*chains, key=lambda one: str(one[1].body.get("at", ""))):
        body = record.body
        at = datetime.fromisoformat(body["at"])
        if (since and at < since) or (until and at >= until) or (kinds and record.kind not in kinds):
            continue
        if request and request not in (body.get("request_id"), body.get("act")):
            continue
        if all(body.get(name) == value for name, value in wanted.items()):
            yield line, record


def records_of(folder: Path) -> Iterator[tuple[bytes, Read]]:
    for path in segments(folder):
        for line in lines(path):
            try:
                record = read(line.rstrip(b"\n"))
                datetime.fromisoformat(record.body["at"])
            except (NoRecord, KeyError, TypeError, ValueError):
                continue
            yield line.rstrip(b"\n"), record


def cells(record: Read) -> tuple[str, ...]:
    body = record.body
    more = {name: value for name, value in body.items() if name not in PLACE}
    kind = f"{record.kind} {body['phase']}" if "phase" in body else record.kind
    words = (str(body.get(name, "")) for name in ("who", "route", "person"))
    return (str(body["at"])[:23], kind, *words, orjson.dumps(more).decode())


def moment(text: str, name: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as wrong:
        raise InvalidArgument("must be a time, for example 2026-01-31T12:00:00", field=f"--{name}") from wrong
    return at if at.tzinfo else at.replace(tzinfo=UTC)
