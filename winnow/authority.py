"""An authority of one's own: it signs a certificate for each service, renews what is due and leaves alone what is good.

    FOLDER/authority/ca.pem                      certificate and key; stays where certificates are made
    FOLDER/<service>/tls.key, tls.crt, ca.crt    what a service is given, as a Kubernetes Secret of type tls has it

A new authority comes in three turns, so that at no moment two services disagree: first everybody learns that it exists
(`next`), then it signs (the old one becomes `former`), then the former one is forgotten. Between two turns every process must
have read its files. Knows neither gRPC nor who reads the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from winnow.errors import FailedPrecondition, WinnowError
from winnow.serving.certificates import AUTHORITIES, CERTIFICATE, KEY, Files, judge, names_of, read, signed

PRIVATE, PUBLIC = 0o600, 0o644
SKEW = timedelta(minutes=5)  # clocks of a cluster differ
RENEW_AT = 1 / 3  # of the lifetime left
AUTHORITY_DAYS = 3_650
SETTLE_S = 120.0  # until every process has surely read its files: kubelet copies a Secret within a minute
CURRENT, NEXT, FORMER = "ca.pem", "next.pem", "former.pem"

Done = Literal["kept", "made", "renewed", "announced", "took over", "forgotten"]


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one certificate, and how long it lasts now."""

    name: str
    done: Done
    until: datetime


def certify(
    folder: Path,
    wanted: Mapping[str, Sequence[str]],
    *,
    lifetime: timedelta,
    new_authority: bool = False,
    settle_s: float = SETTLE_S,
) -> list[Outcome]:
    """Bring the certificates of `wanted` (folder's name -> names in the certificate) up to date. FailedPrecondition where
    the authority's files are damaged: they are never replaced silently."""
    own = folder / "authority"
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    outcomes = [authority(own, new_authority, settle_s)]
    signer = load(own, CURRENT)
    trusted = b"".join(pem(load(own, which).certificate) for which in (CURRENT, NEXT, FORMER) if (own / which).exists())
    for name, names in wanted.items():
        outcomes.append(service(folder / name, name, names, signer, trusted, lifetime))
    return outcomes


# ------------------------------------------------------------------------------------------------- the authority


def authority(own: Path, new: bool, settle_s: float) -> Outcome:
    """One turn: made, kept, or a step on the way to a new one."""
    done: Done = "kept"
    if not (own / CURRENT).exists():
        keep(own, CURRENT, self_signed())
        done = "made"
    elif (own / NEXT).exists():
        if age_s(own, NEXT) >= settle_s:
            take_over(own)
            done = "took over"
    elif (own / FORMER).exists():
        if age_s(own, FORMER) >= settle_s:
            (own / FORMER).unlink()
            done = "forgotten"
    elif new or due(load(own, CURRENT).certificate):
        keep(own, NEXT, self_signed())
        done = "announced"
    return Outcome("authority", done, load(own, CURRENT).certificate.not_valid_after_utc)


def take_over(own: Path) -> None:
    """Next becomes current, current former. Killed in between, the next run finds both and goes on from there."""
    before, coming = load(own, CURRENT), load(own, NEXT)
    if before.certificate != coming.certificate:
        keep(own, FORMER, before)
        keep(own, CURRENT, coming)
    (own / NEXT).unlink()


def self_signed() -> Signer:
    key = new_key()
    name = named(f"Winnow authority {datetime.now(UTC):%Y-%m-%d}")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates, lists
    made = (
        begun(name, name, key, timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Signer(made, key)


def age_s(own: Path, which: str) -> float:
    return datetime.now(UTC).timestamp() - (own / which).stat().st_mtime


def load(own: Path, which: str) -> Signer:
    files = Files("authority", own / which, own / which)
    try:
        pems = read(files)
        judge(files, pems)
        key = serialization.load_pem_private_key(pems.key, password=None)
    except WinnowError as damaged:
        raise FailedPrecondition(f"{damaged.detail}; put it back, or remove {own} to begin anew") from damaged
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FailedPrecondition(f"{files.key} is no key on an elliptic curve; it was not made here")
    return Signer(x509.load_pem_x509_certificate(pems.certificate), key)


def keep(own: Path, which: str, signer: Signer) -> None:
    put(own / which, key_pem(signer.key) + pem(signer.certificate), PRIVATE)


# ------------------------------------------------------------------------------------------------- a service


def service(
    folder: Path, name: str, names: Sequence[str], signer: Signer, trusted: bytes, lifetime: timedelta
) -> Outcome:
    """Its certificate, new only where the old one is due, damaged, of other names or of another authority."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if current(folder / AUTHORITIES) != trusted:
        put(folder / AUTHORITIES, trusted, PUBLIC)
    old = good(folder, names, signer)
    if old is not None:
        return Outcome(name, "kept", old.not_valid_after_utc)
    there = (folder / CERTIFICATE).exists()
    key = new_key()
    made = leaf(names, key, signer, lifetime)
    put(folder / KEY, key_pem(key), PRIVATE)
    put(folder / CERTIFICATE, pem(made), PUBLIC)
    return Outcome(name, "renewed" if there else "made", made.not_valid_after_utc)


def good(folder: Path, names: Sequence[str], signer: Signer) -> x509.Certificate | None:
    """The certificate that is there, if it need not be touched."""
    files = Files.within(str(folder), folder, mutual=True)
    try:
        pems = read(files)
        judge(files, pems)
    except WinnowError:
        return None
    found = x509.load_pem_x509_certificate(pems.certificate)
    right = sorted(all_names(found)) == sorted(names) and signed(found, signer.certificate)
    return found if right and not due(found) else None


def leaf(
    names: Sequence[str], key: ec.EllipticCurvePrivateKey, signer: Signer, lifetime: timedelta
) -> x509.Certificate:
    """It both serves and calls. It ends before its authority does."""
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # signs handshakes
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    left = signer.certificate.not_valid_after_utc - datetime.now(UTC)
    return (
        begun(named(names[0]), signer.certificate.subject, key, min(lifetime, left))
        .add_extension(x509.SubjectAlternativeName([general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def all_names(certificate: x509.Certificate) -> Iterable[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (*names_of(certificate), *map(str, found.get_values_for_type(x509.IPAddress)))


def general(name: str) -> x509.GeneralName:
    """An address or a name."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


# ------------------------------------------------------------------------------------------------- both


def begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def due(certificate: x509.Certificate) -> bool:
    until = certificate.not_valid_after_utc
    return until - datetime.now(UTC) < RENEW_AT * (until - certificate.not_valid_before_utc)


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def current(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def put(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than `mode` says, not even for a moment."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
