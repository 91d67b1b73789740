"""`winnow certificates`: an authority of one's own, and what it signs, made once and kept up to date by the same command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import note, show, table
from cli.homes import AsJson

if TYPE_CHECKING:
    from winnow.authority import Outcome

SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
FACE = "face"
LOCAL = ("localhost", "127.0.0.1")

Folder = Annotated[Path, typer.Argument(help="Where they lie; a folder for each service comes below it.")]
Days = Annotated[int, typer.Option("--days", min=1, max=825, help="How long a service's certificate lasts.")]
Domain = Annotated[str, typer.Option("--domain", help="Names are SERVICE.DOMAIN.", envvar="WINNOW_TLS_DOMAIN")]
FaceHosts = Annotated[
    list[str] | None,
    typer.Option("--face-host", help="Name or address that callers from outside know the gateway by; repeatable."),
]
NewAuthority = Annotated[bool, typer.Option("--new-authority", help="Begin to replace the authority itself.")]
Settle = Annotated[
    float,
    typer.Option("--settle-s", min=0.0, help="Seconds until every process has surely read its files."),
]


def certificates(
    folder: Folder = Path("build/certificates"),
    days: Days = 90,
    domain: Domain = "winnow",
    face_host: FaceHosts = None,
    new_authority: NewAuthority = False,
    settle_s: Settle = 120.0,
    as_json: AsJson = False,
) -> None:
    """Make, or bring up to date, an authority and one certificate for each service; what is good is not touched. Run it
    daily: a certificate is renewed in the last third of its life, and running services take it without a restart."""
    from winnow.authority import certify

    wanted: dict[str, tuple[str, ...]] = {service: (f"{service}.{domain}",) for service in SERVICES}
    wanted[FACE] = tuple(face_host or LOCAL)
    done = certify(folder, wanted, lifetime=timedelta(days=days), new_authority=new_authority, settle_s=settle_s)
    rows = table(f"certificates in {folder}", "of", "done", "until", "#days left")
    for one in done:
        rows.add_row(one.name, one.done, f"{one.until:%Y-%m-%d %H:%M} UTC", f"{left(one):.0f}")
    document = [{"of": one.name, "done": one.done, "until": one.until.isoformat(), "days": left(one)} for one in done]
    show(document, rows, as_json)
    if not as_json:
        note(advice(done[0], folder))


def left(one: Outcome) -> float:
    """Days until it ends."""
    return (one.until - datetime.now(UTC)) / timedelta(days=1)


def advice(authority: Outcome, folder: Path) -> str:
    match authority.done:
        case "announced":
            return "a new authority is known to all now; run this again in a few minutes, twice, for it to take over"
        case "took over":
            return "the new authority signs now; run this again in a few minutes for the former one to be forgotten"
        case _:
            return f"each service gets its folder: WINNOW_TLS_FOLDER={folder}/<service>; {folder}/authority to nobody"
