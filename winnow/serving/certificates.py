"""Certificate, key and authorities as files hold them, read whole and judged before anybody uses them.

Knows no protocol. `cryptography` is imported by whoever configured TLS, and by nobody else.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.errors import FailedPrecondition
from winnow.serving.address import reason

if TYPE_CHECKING:
    from cryptography import x509

CERTIFICATE, KEY, AUTHORITIES = "tls.crt", "tls.key", "ca.crt"  # as a Kubernetes Secret of type tls names them
MAX_BYTES = 256 * 1024  # of one file
LEAST_RSA_BITS = 2_048
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # that every side of ours speaks


class CertificateRefused(FailedPrecondition):
    """Files that cannot be served with; the detail says why, and never what is in a key."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where they lie. `setting` is the variable that says so; without `authorities` no peer is asked for a certificate."""

    setting: str
    certificate: Path
    key: Path
    authorities: Path | None = None

    @classmethod
    def within(cls, setting: str, folder: Path, *, mutual: bool) -> Files:
        return cls(setting, folder / CERTIFICATE, folder / KEY, folder / AUTHORITIES if mutual else None)


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files held at one moment. `authorities` is empty where none are asked for."""

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes = b""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. `authority_until` is the end of the authority that signed it, where it is known."""

    names: tuple[str, ...]
    until: datetime
    authority_until: datetime | None = None


def read(files: Files) -> Pems:
    """CertificateRefused where a file cannot be read."""
    authorities = whole(files, files.authorities) if files.authorities else b""
    return Pems(whole(files, files.certificate), whole(files, files.key), authorities)


def whole(files: Files, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as wrong:
        raise CertificateRefused(f"{files.setting}: cannot read {path}: {reason(wrong)}") from wrong
    if not 0 < len(found) <= MAX_BYTES:
        raise CertificateRefused(f"{files.setting}: {path} has {len(found)} bytes; 1 to {MAX_BYTES} make sense")
    return found


def judge(files: Files, pems: Pems, name: str = "") -> Facts:
    """CertificateRefused unless the key is the certificate's, now is within its time, it bears `name`, and one of the
    authorities signed it."""
    chain = certificates_in(files, pems.certificate, files.certificate)
    leaf = chain[0]
    if public_key_in(files, pems.key) != public_bytes(leaf):
        raise CertificateRefused(f"{files.setting}: {files.key} is not the key of {files.certificate}")
    usable(files, pems)
    now = datetime.now(UTC)
    if now >= leaf.not_valid_after_utc:
        raise CertificateRefused(f"{files.setting}: {files.certificate} expired at {when(leaf.not_valid_after_utc)}")
    if now < leaf.not_valid_before_utc:
        raise CertificateRefused(f"{files.setting}: {files.certificate} counts from {when(leaf.not_valid_before_utc)}")
    names = names_of(leaf)
    if name and name not in names:
        said = ", ".join(names) or "nobody"
        raise CertificateRefused(f"{files.setting}: {files.certificate} is of {said}, not of {name}")
    if files.authorities is None:
        return Facts(names, leaf.not_valid_after_utc)
    known = certificates_in(files, pems.authorities, files.authorities)
    signer = signer_of(chain, known)
    if signer is None:
        raise CertificateRefused(f"{files.setting}: nobody in {files.authorities} signed {files.certificate}")
    return Facts(names, leaf.not_valid_after_utc, signer.not_valid_after_utc)


def usable(files: Files, pems: Pems) -> None:
    """CertificateRefused for a key that TLS itself would not serve with: found here, the old certificate stays."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = serialization.load_pem_private_key(pems.key, password=None)
    strong = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS
    strong |= isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES
    if not strong:
        raise CertificateRefused(
            f"{files.setting}: {files.key} is no RSA key of {LEAST_RSA_BITS} bits, nor of P-256 to P-521"
        )
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pems)
    except ssl.SSLError as wrong:
        raise CertificateRefused(f"{files.setting}: {files.certificate}: {wrong.reason}") from wrong


def load(context: ssl.SSLContext, pems: Pems) -> None:
    """Python reads certificates from files only: one without a name, so that what was judged is what is served."""
    file = os.memfd_create("winnow-certificate", os.MFD_CLOEXEC)
    try:
        write(file, [pems.key, b"\n", pems.certificate])
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def write(file: int, parts: Sequence[bytes]) -> None:
    left = memoryview(b"".join(parts))
    while left:
        left = left[os.write(file, left) :]


def certificates_in(files: Files, pem: bytes, path: Path) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as wrong:
        raise CertificateRefused(f"{files.setting}: {path} holds no certificate in PEM") from wrong


def public_key_in(files: Files, pem: bytes) -> bytes:
    """The public half of a private key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise CertificateRefused(f"{files.setting}: {files.key} holds no open private key in PEM") from None
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_bytes(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its DNS names. The common name is none: nobody verifies it any more (RFC 9525)."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))


def signer_of(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The authority at the end of the chain; None where it does not lead to one."""
    for n, link in enumerate(chain):
        if n and not signed(chain[n - 1], link):
            return None
        if (found := next((one for one in authorities if signed(link, one)), None)) is not None:
            return found
    return None


def signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):  # another name, another kind of key, another key
        return False
    return True


def when(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
