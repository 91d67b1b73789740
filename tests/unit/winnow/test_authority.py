"""An authority of one's own signs, renews what is due, touches nothing else, and is itself replaced without a break."""

import os
import stat
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.certificates import QUARTER, WANTED, certified
from winnow import authority
from winnow.errors import FailedPrecondition
from winnow.serving.certificates import Files, judge, read


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def trusts(one: Path, other: Path) -> bool:
    """Whether who has the files `one` takes the certificate among `other`, by a verifier that is not ours."""
    store = Store(x509.load_pem_x509_certificates((one / "ca.crt").read_bytes()))
    [leaf] = x509.load_pem_x509_certificates((other / "tls.crt").read_bytes())
    try:
        PolicyBuilder().store(store).build_client_verifier().verify(leaf, [])
    except VerificationError:
        return False
    return True


def copied(folder: Path, into: Path) -> Path:
    """What a process read at some moment."""
    into.mkdir(parents=True)
    for file in folder.iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    return into


def test_what_is_made_verifies_by_name_and_only_owners_read_keys(tmp_path: Path) -> None:
    folder = certified(tmp_path)
    for name, names in WANTED.items():
        files = Files.within(name, folder / name, mutual=True)
        facts = judge(files, read(files), names[0])
        assert facts.until - datetime.now(UTC) > QUARTER - timedelta(minutes=1)
        assert all(trusts(folder / name, folder / other) for other in WANTED)
    secrets = [file for file in folder.rglob("*") if file.is_file() and b"PRIVATE" in file.read_bytes()]
    assert len(secrets) == len(WANTED) + 1
    assert {stat.S_IMODE(os.stat(file).st_mode) for file in secrets} == {0o600}


def test_what_is_good_is_not_touched(tmp_path: Path) -> None:
    before = contents(certified(tmp_path))
    assert contents(certified(tmp_path)) == before
    (tmp_path / "ranking" / "tls.key").write_text("damaged")
    after = contents(certified(tmp_path))
    assert {name for name in after if after[name] != before[name]} == {"ranking/tls.key", "ranking/tls.crt"}


@pytest.mark.parametrize(("left", "renewed"), [(0.30, True), (0.36, False)])
def test_a_certificate_is_renewed_in_the_last_third_of_its_life(tmp_path: Path, left: float, renewed: bool) -> None:
    certified(tmp_path)
    signer = authority.load(tmp_path / "authority", authority.CURRENT)
    key = authority.new_key()
    now = datetime.now(UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(authority.named("ranking.winnow"))
        .issuer_name(signer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - QUARTER * (1 - left))
        .not_valid_after(now + QUARTER * left)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("ranking.winnow")]), critical=False)
        .sign(signer.key, authority.hashes.SHA256())
    )
    (tmp_path / "ranking" / "tls.key").write_bytes(authority.key_pem(key))
    (tmp_path / "ranking" / "tls.crt").write_bytes(authority.pem(old))
    outcomes = authority.certify(tmp_path, WANTED, lifetime=QUARTER)
    assert [one.name for one in outcomes if one.done != "kept"] == (["ranking"] if renewed else [])


def test_other_names_make_another_certificate(tmp_path: Path) -> None:
    certified(tmp_path)
    outcomes = authority.certify(tmp_path, WANTED | {"face": ("shop.example", "10.0.0.1")}, lifetime=QUARTER)
    assert [one.name for one in outcomes if one.done != "kept"] == ["face"]
    [made] = x509.load_pem_x509_certificates((tmp_path / "face" / "tls.crt").read_bytes())
    assert sorted(authority.all_names(made)) == ["10.0.0.1", "shop.example"]


def test_a_new_authority_comes_in_turns_between_which_everybody_trusts_everybody(tmp_path: Path) -> None:
    """Whatever moment of two turns in a row each of two services has read."""
    folder = certified(tmp_path / "made")
    moments = [{name: copied(folder / name, tmp_path / f"0-{name}") for name in WANTED}]
    for turn in range(1, 5):
        certified(folder, new_authority=turn == 1)
        moments.append({name: copied(folder / name, tmp_path / f"{turn}-{name}") for name in WANTED})
    for before, after in pairwise(moments):
        for one, other in product(("gateway", "ranking"), repeat=2):
            assert trusts(before[one], after[other])
            assert trusts(after[one], before[other])
    assert not trusts(moments[0]["gateway"], moments[-1]["ranking"])
    assert not trusts(moments[-1]["gateway"], moments[0]["ranking"])
    assert [file.name for file in (folder / "authority").iterdir()] == ["ca.pem"]


def test_a_turn_waits_until_everybody_has_read_the_last_one(tmp_path: Path) -> None:
    certified(tmp_path, new_authority=True)
    certified(tmp_path, new_authority=True)
    before = contents(tmp_path)
    authority.certify(tmp_path, WANTED, lifetime=QUARTER, settle_s=60)
    assert contents(tmp_path) == before
    os.utime(tmp_path / "authority" / "next.pem", (0, 0))
    done = authority.certify(tmp_path, WANTED, lifetime=QUARTER, settle_s=60)
    assert [one.done for one in done] == ["took over", *["renewed"] * len(WANTED)]


def test_a_turn_that_was_killed_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    certified(tmp_path)
    certified(tmp_path, new_authority=True)
    own = tmp_path / "authority"
    old = (own / "ca.pem").read_bytes()
    coming = authority.load(own, authority.NEXT)
    authority.keep(own, authority.FORMER, authority.load(own, authority.CURRENT))
    authority.keep(own, authority.CURRENT, coming)  # and killed before `next` is gone
    certified(tmp_path)
    assert (own / "former.pem").read_bytes() == old
    assert not (own / "next.pem").exists()


def test_a_damaged_authority_is_never_replaced_silently(tmp_path: Path) -> None:
    certified(tmp_path)
    (tmp_path / "authority" / "ca.pem").write_text("damaged")
    before = contents(tmp_path)
    with pytest.raises(FailedPrecondition, match=r"ca\.pem holds no certificate in PEM; put it back"):
        certified(tmp_path)
    assert contents(tmp_path) == before


def test_a_key_of_another_making_is_not_signed_with(tmp_path: Path) -> None:
    certified(tmp_path)
    other = ec.generate_private_key(ec.SECP384R1())
    file = tmp_path / "authority" / "ca.pem"
    certificate = file.read_bytes().partition(b"-----BEGIN CERTIFICATE")
    key = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(key + certificate[1] + certificate[2])
    with pytest.raises(FailedPrecondition, match="is not the key of"):
        certified(tmp_path)
