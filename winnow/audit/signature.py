"""Ed25519 over the head of a chain: who may write the log but has not the key cannot build a chain anew.

The private key is a PEM file that only the writers read; the auditor brings the public one. Signatures are made a few
times a minute, not per record: one head vouches for everything before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from winnow.errors import FailedPrecondition

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

HEAD = b"winnow audit head\n"


def words_of(chain: str, seq: int, previous: str) -> bytes:
    """What is signed: this chain stood there, with this hash as its newest."""
    return HEAD + f"{chain}\n{seq}\n{previous}".encode()


class Signer:
    """The writer's side. Its key never appears in a message."""

    def __init__(self, file: Path) -> None:
        """FailedPrecondition: no such file, or no Ed25519 key in it."""
        self._key = private_key(file)
        self.verifier = Verifier(self._key.public_key())

    def sign(self, chain: str, seq: int, newest: str) -> str:
        return self._key.sign(words_of(chain, seq, newest)).hex()


class Verifier:
    """The auditor's side."""

    def __init__(self, key: Path | Ed25519PublicKey) -> None:
        """FailedPrecondition: no such file, or no Ed25519 public key in it."""
        self._key = public_key(key) if isinstance(key, Path) else key

    def holds(self, signature: object, chain: str, seq: int, newest: str) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(bytes.fromhex(str(signature)), words_of(chain, seq, newest))
        except (InvalidSignature, ValueError):
            return False
        return True


def private_key(file: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content(file), None)
    except (ValueError, TypeError) as wrong:
        raise FailedPrecondition(f"{file} holds no private key without a password") from wrong
    if not isinstance(key, Ed25519PrivateKey):
        raise FailedPrecondition(f"{file} holds no Ed25519 key")
    return key


def public_key(file: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content(file))
    except ValueError as wrong:
        raise FailedPrecondition(f"{file} holds no public key") from wrong
    if not isinstance(key, Ed25519PublicKey):
        raise FailedPrecondition(f"{file} holds no Ed25519 public key")
    return key


def content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as gone:
        raise FailedPrecondition(f"the key {file} cannot be read: {gone.strerror}") from gone
