"""Certificates for tests: what `winnow certificates` makes, and what nobody should accept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from winnow import authority
from winnow.serving.certificates import Files
from winnow.serving.identity import Identity, Inside

SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
WANTED = {name: (f"{name}.winnow",) for name in SERVICES} | {"face": ("localhost", "127.0.0.1")}
QUARTER = timedelta(days=90)
OFTEN_S = 0.05


def certified(folder: Path, *, lifetime: timedelta = QUARTER, new_authority: bool = False) -> Path:
    """One turn of `winnow certificates`, for which every process has read its files by now."""
    authority.certify(folder, WANTED, lifetime=lifetime, new_authority=new_authority, settle_s=0)
    return folder


def reissued(folder: Path) -> None:
    """Other certificates of the same authority."""
    for name in WANTED:
        (folder / name / "tls.crt").unlink()
    certified(folder)


def issued(folder: Path, into: Path, name: str, *, lifetime: timedelta = QUARTER) -> Path:
    """One certificate by the authority of `folder`, in a folder of its own, whatever is wrong with it."""
    into.mkdir(parents=True, exist_ok=True)
    signer = authority.load(folder / "authority", authority.CURRENT)
    key = authority.new_key()
    (into / "tls.key").write_bytes(authority.key_pem(key))
    (into / "tls.crt").write_bytes(authority.pem(authority.leaf([name], key, signer, lifetime)))
    (into / "ca.crt").write_bytes(authority.pem(signer.certificate))
    return into


def inside(folder: Path, service: str, **more: float) -> Inside:
    """The identity of a service, of the files in `folder`/service."""
    files = Files.within("WINNOW_TLS_FOLDER", folder / service, mutual=True)
    return Inside(service, "winnow", files, every_s=more.get("every_s", OFTEN_S))


def outside(folder: Path) -> Identity:
    return Identity("face", Files.within("WINNOW_FACE_TLS_FOLDER", folder / "face", mutual=False), every_s=OFTEN_S)
