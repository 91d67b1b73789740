"""Keys of an issuer through rotations and outages: bounded, patient, and never the wrong one."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from services.gateway import key_set as module
from services.gateway.key_set import FromFile, FromUrl, KeySet, parse
from services.gateway.watched import Watched
from tests.issuers import Shown, ec_key, jwk, key_document, key_set, rsa_key
from winnow.errors import FailedPrecondition, PayloadTooLarge, Unavailable, WinnowError

ROTATED = key_document(jwk(rsa_key(), "r0"), jwk(rsa_key(1), "r1"))


async def test_a_new_key_is_found_when_a_token_names_it() -> None:
    shown = Shown()
    keys = key_set(shown)
    shown.content = ROTATED
    assert await keys.find("r1", "RS256") is not None
    assert await keys.find("r0", "RS256") is not None
    assert await keys.find("e0", "ES256") is None, "what the issuer no longer shows is gone"


async def test_unknown_names_ask_the_issuer_at_a_bounded_rate() -> None:
    shown = Shown()
    keys = key_set(shown, again_s=0.2)
    for number in range(50):
        assert await keys.find(f"nobody{number}", "RS256") is None
    assert shown.asked == 1
    await asyncio.sleep(0.25)
    await asyncio.gather(*(keys.find(f"nobody{number}", "RS256") for number in range(50)))
    assert shown.asked == 2, "whoever comes meanwhile waits for the same answer"


async def test_the_last_good_keys_serve_while_the_issuer_is_away_or_mad() -> None:
    shown = Shown()
    keys = key_set(shown)
    for content, away in ((shown.content, True), (b"<html>", False), (b'{"keys":[]}', False), (b"", False)):
        shown.content, shown.away = content, away
        assert await keys.find("new", "RS256") is None
        assert await keys.find("r0", "RS256") is not None


async def test_before_any_keys_were_read_nobody_can_tell() -> None:
    shown = Shown(away=True)
    keys = KeySet(shown, 300, again_s=0)
    with pytest.raises(Unavailable):
        await keys.find("r0", "RS256")
    shown.away = False
    assert await keys.find("r0", "RS256") is not None


async def test_keys_are_fetched_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    keys = KeySet(shown, every_s=0.05, again_s=0.01)
    following = asyncio.create_task(keys.follow())
    async with asyncio.timeout(30):
        while shown.asked < 20:  # noqa: ASYNC110  # a counter has no event
            await asyncio.sleep(0.01)
    following.cancel()
    assert keys.version == 1, "the same keys again change nothing"


UNFIT: dict[str, Any] = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "x", "alg": "HS256"},
    "for encryption": jwk(rsa_key(), "x", use="enc"),
    "to sign with": jwk(rsa_key(), "x", key_ops=["sign"]),
    "another algorithm": jwk(rsa_key(), "x", alg="HS256"),
    "RSA by PSS": jwk(rsa_key(), "x", alg="PS256"),
    "1024 bits": jwk(rsa_key(9, 1_024), "x"),
    "another curve": {**jwk(ec_key(), "x"), "crv": "P-384"},
    "P-521": jwk(ec.generate_private_key(ec.SECP521R1()), "x"),
    "a private key that got out": {**RSAAlgorithm.to_jwk(rsa_key(), as_dict=True), "kid": "x", "key_ops": ["verify"]},
    "a private EC key that got out": {**ECAlgorithm.to_jwk(ec_key(), as_dict=True), "kid": "x"},
    "no kid": {name: value for name, value in jwk(rsa_key(), "x").items() if name != "kid"},
    "a kid of 1000": jwk(rsa_key(), "x" * 1_000),
    "a kid that is a list": {**jwk(rsa_key(), "x"), "kid": ["x"]},
    "half of it missing": {"kty": "RSA", "kid": "x", "e": "AQAB"},
    "numbers for text": {"kty": "RSA", "kid": "x", "e": 3, "n": 5},
    "no point of the curve": {"kty": "EC", "kid": "x", "crv": "P-256", "x": "AA", "y": "AA"},
    "no key at all": "x",
    "nothing": None,
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_verify_our_tokens_is_left_out(name: str) -> None:
    assert set(parse(key_document(UNFIT[name], jwk(rsa_key(), "good")))) == {("good", "RS256")}
    with pytest.raises(FailedPrecondition):
        parse(key_document(UNFIT[name]))


def test_of_two_keys_with_one_name_the_first_counts() -> None:
    keys = parse(key_document(jwk(rsa_key(), "k"), jwk(rsa_key(1), "k"), jwk(ec_key(), "k")))
    assert keys["k", "RS256"].public_numbers() == rsa_key().public_key().public_numbers()
    assert ("k", "ES256") in keys, "the algorithm belongs to the name"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"null", b'{"keys":{}}', b"[" * 9_999, b'{"keys":[1]}'])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(FailedPrecondition):
        parse(content)


def test_a_set_of_very_many_keys_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="at most 100"):
        parse(key_document(*[jwk(rsa_key(), "k")] * 101))


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(key_document())
    source = FromFile(str(file))
    keys = KeySet(source, 300)
    await keys.load()
    assert not source.changed()
    other = tmp_path / "new"
    other.write_bytes(ROTATED)
    os.replace(other, file)  # as Kubernetes does it
    assert source.changed()
    await keys.load()
    assert await keys.find("r1", "RS256") is not None
    file.write_bytes(b"x" * (module.MAX_BYTES + 1))
    with pytest.raises(PayloadTooLarge):
        await source.read()


# ---------------------------------------------------------------------------------- an issuer's address

Answer = Callable[[asyncio.StreamWriter], Any]


@asynccontextmanager
async def issuer(answer: Answer) -> AsyncIterator[str]:
    """A real server on loopback that answers every request as `answer` writes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"


def says(status: str, body: bytes, *headers: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers])
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return answer


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(1_000):
        writer.write(b" " * 65_536)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(100):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_an_issuer_is_asked_over_http() -> None:
    async with issuer(says("200 OK", key_document())) as url:
        assert len(parse(await FromUrl(url).read())) == 2


@pytest.mark.parametrize(
    "answer",
    [
        says("500 Oops", key_document()),
        says("302 Found", b"", "location: http://127.0.0.1:9/"),
        says("200 OK", b"\x1f\x8b", "content-encoding: gzip"),
        says("nonsense", b""),
        dripping,
    ],
)
async def test_an_issuer_that_misbehaves_costs_little_time_and_memory(answer: Answer) -> None:
    async with issuer(answer) as url:
        began = asyncio.get_running_loop().time()
        with pytest.raises(WinnowError):
            await FromUrl(url, fetch_s=0.5).read()
        assert asyncio.get_running_loop().time() - began < 5  # as long as it drips


async def test_an_issuer_that_never_ends_is_cut_off_by_size() -> None:
    async with issuer(endless) as url:
        with pytest.raises(Unavailable, match="more than 262144 bytes"):
            await FromUrl(url, fetch_s=30).read()


async def test_an_issuer_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="ConnectError"):
        await FromUrl("http://127.0.0.1:1/jwks").read()


@pytest.mark.parametrize("broken", [FileNotFoundError("ca"), ssl.SSLError("no start line")])
async def test_authorities_of_the_system_that_cannot_be_read_are_an_issuer_that_is_away(
    broken: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are files too, and replaced while we run: good keys stay, the process stays."""

    def context() -> None:
        raise broken

    monkeypatch.setattr(module.httpx, "create_ssl_context", context)
    with pytest.raises(Unavailable):
        await FromUrl("https://issuer.example/keys").read()


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    file, following = tmp_path / "keys", tmp_path / "following"
    file.write_bytes(b"old")
    following.write_bytes(b"revoked")
    watched = Watched(file, 100)

    class Swapped(type(file)):  # type: ignore[misc]
        def open(self, *words: Any, **more: Any) -> Any:
            opened = super().open(*words, **more)
            following.replace(file)
            return opened

    watched._path = Swapped(file)
    assert watched.read() == b"old"
    watched._path = file
    assert watched.changed()
    assert watched.read() == b"revoked"
