"""Tokens made to be taken by mistake: none is, and none breaks anything."""

import base64
import hmac
import json
import logging
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import tokens as module
from services.gateway.tokens import MAX_BYTES, Expected, Tokens
from tests.guards import LEEWAY_S, bearer, faces, guard, new_key
from tests.issuers import AUDIENCE, ISSUER, Shown, claims, ec_key, jwk, key_document, key_set, rsa_key, token
from winnow.errors import Unauthenticated
from winnow.serving.principal import SCOPES

PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER = rsa.generate_private_key(65_537, 2_048)


def b64(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unsigned(header: Any, payload: Any, signature: bytes = b"") -> str:
    return f"{b64(header)}.{b64(payload)}.{b64(signature)}"


def with_hmac(secret: bytes, **header: Any) -> str:
    """What PyJWT refuses to make: HS256 with the public key for a secret."""
    signed = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'r0', **header})}.{b64(claims())}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def changed(place: int) -> str:
    parts = token().split(".")
    parts[place] = ("A" if parts[place][5] != "A" else "B").join((parts[place][:5], parts[place][6:]))
    return ".".join(parts)


NOW = int(time.time())
HOSTILE = {
    "alg none": unsigned({"alg": "none", "kid": "r0"}, claims()),
    "alg None": unsigned({"alg": "None", "kid": "r0"}, claims(), b"x"),
    "no alg": unsigned({"kid": "r0"}, claims(), b"x"),
    "alg a list": unsigned({"alg": ["RS256"], "kid": "r0"}, claims(), b"x"),
    "HS256 with the public key": with_hmac(PEM),
    "HS256 with the empty key": with_hmac(b""),
    "HS256 that says RS256": with_hmac(PEM, alg="RS256"),
    "RS256 under the name of the EC key": token("e0"),
    "ES256 under the name of the RSA key": token("r0", "ES256"),
    "PS256": jwt.encode(claims(), rsa_key(), "PS256", headers={"kid": "r0"}),
    "RS512": jwt.encode(claims(), rsa_key(), "RS512", headers={"kid": "r0"}),
    "ES384 curve": jwt.encode(claims(), ec.generate_private_key(ec.SECP384R1()), "ES384", headers={"kid": "e0"}),
    "another's key": token(key=OTHER),
    "another's key, embedded": token("new", key=OTHER, headers={"jwk": jwk(OTHER, "new")}),
    "another's key, by address": token("new", key=OTHER, headers={"jku": "https://evil.example/jwks"}),
    "another's certificate": token(headers={"x5c": ["MIIB"]}),
    "another's certificate, by address": token(headers={"x5u": "https://evil.example/"}),
    "a right token with a key of its own": token(headers={"jwk": jwk(rsa_key(), "r0")}),
    "unknown kid": token("r1"),
    "kid a path": token("../../../../dev/null"),
    "kid a file": token("file:///proc/self/environ"),
    "kid SQL": token("r0' OR '1'='1"),
    "kid with a zero": token("r0\0"),
    "kid huge": token("r" * 4_000),
    "kid empty": token(""),
    "kid a number": unsigned({"alg": "RS256", "kid": 0}, claims(), b"x"),
    "no kid": jwt.encode(claims(), rsa_key(), "RS256"),
    "crit": token(headers={"crit": ["exp"], "exp": NOW + 600}),
    "crit empty": token(headers={"crit": []}),
    "b64": token(headers={"crit": ["b64"], "b64": True}),
    "a logout token": token(headers={"typ": "logout+jwt"}),
    "expired": token(exp=NOW - 60),
    "nbf in the future": token(nbf=NOW + 3_600),
    "iat in the future": token(iat=NOW + 3_600),
    "no exp": token(exp=None),
    "exp infinite": unsigned({"alg": "RS256", "kid": "r0"}, b'{"exp": 1e999}', b"x"),
    "exp true": token(exp=True),
    "exp a list": token(exp=[NOW + 600]),
    "exp nothing": jwt.encode({**claims(), "exp": None}, rsa_key(), "RS256", headers={"kid": "r0"}),
    "no sub": token(sub=None),
    "sub empty": token(sub=""),
    "sub with a line end": token(sub="shop\nadmin"),
    "sub huge": token(sub="s" * 300),
    "no iss": token(iss=None),
    "another issuer": token(iss=ISSUER + "/"),
    "no aud": token(aud=None),
    "another audience": token(aud=AUDIENCE + "2"),
    "other audiences": token(aud=["a", "b"]),
    "aud an object": token(aud={"winnow": 1}),
    "header changed": changed(0),
    "payload changed": changed(1),
    "signature changed": changed(2),
    "signature missing": token().rpartition(".")[0] + ".",
    "signature of zeros": token("e0", "ES256").rpartition(".")[0] + "." + b64(bytes(64)),
    "two parts": token().rpartition(".")[0],
    "four parts": token() + ".e30",
    "five parts": "a.b.c.d.e",
    "padding": token() + "=",
    "a blank within": token().replace(".", " .", 1),
    "payload a list": unsigned({"alg": "RS256", "kid": "r0"}, [], b"x"),
    "header a list": unsigned([], claims(), b"x"),
    "header no JSON": unsigned(b"{", claims(), b"x"),
    "header no text": unsigned(b"\xff\xfe", claims(), b"x"),
    "header deep": unsigned(b"[" * 3_000, claims(), b"x"),
    "payload deep": unsigned({"alg": "RS256", "kid": "r0"}, b'{"a":' * 800, b"x"),
    "a JWE": "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
    "huge": "a" * 100_000,
    "dots": "." * 1_000,
    "empty": "",
    "letters that are none": "é.ü.ß",
    "digits of elsewhere": "٣.٣.٣",
}


def bearers(shown: Shown | None = None) -> Tokens:
    return Tokens(key_set(shown), Expected(ISSUER, AUDIENCE, LEEWAY_S))


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_is_nobodys(name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await bearers().find(HOSTILE[name])
    assert HOSTILE[name][:20] not in refused.value.detail or not HOSTILE[name]


async def test_over_http_a_hostile_token_is_a_401_and_reaches_nobody() -> None:
    async with faces(guard()) as both:
        for name, text in HOSTILE.items():
            headers = [(b"authorization", b"Bearer " + text.encode())]
            answer = await both.http.get("/v1/trending", headers=headers)
            assert answer.status_code == 401, name
            assert len(text) < 30 or text[:30] not in answer.text
        assert both.inner.calls == []


async def test_a_credential_comes_once_or_not_at_all() -> None:
    key, file = new_key()
    right = f"Bearer {token()}"
    several = [
        [("authorization", right), ("authorization", right)],
        [("authorization", right), ("authorization", "Bearer x")],
        [("Authorization", right), ("x-api-key", key)],
        [("x-api-key", key), ("X-API-Key", key)],
        [("authorization", f"{right}, {right}")],
        [("authorization", f"Basic {right}")],
        [("authorization", right[len("Bearer ") :])],
        [("authorization", f"Bearer {key}")],
        [("x-api-key", right)],
        [("authorization", "")],
    ]
    async with faces(guard(file)) as both:
        for headers in several:
            assert (await both.http.get("/v1/trending", headers=headers)).status_code == 401, headers
        for one in ({"authorization": right}, {"AUTHORIZATION": right.replace("Bearer", "bEARER")}, {"x-api-key": key}):
            assert (await both.http.get("/v1/trending", headers=one)).status_code == 200


BEARERS = bearers()
RIGHT = (token(), token("e0", "ES256"))
PARTS = st.one_of(st.text(max_size=40), st.sampled_from([part for one in RIGHT for part in one.split(".")]))
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "zip", "enc"]),
    st.recursive(
        st.one_of(st.sampled_from(["RS256", "ES256", "HS256", "none", "r0", "e0", "JWT"]), st.integers(), st.none()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
)


@given(st.lists(PARTS, max_size=6).map(".".join))
async def test_pieces_of_tokens_make_no_token(text: str) -> None:
    if text not in RIGHT:
        with pytest.raises(Unauthenticated):
            await BEARERS.find(text)


@given(HEADERS, st.binary(max_size=80))
async def test_no_header_makes_up_for_a_signature(header: dict[str, Any], signature: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await BEARERS.find(unsigned(header, claims(), signature))


@given(st.dictionaries(st.sampled_from(["exp", "nbf", "iat", "aud", "iss", "sub", "scope", "scp"]), st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=3)),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
), min_size=1))  # fmt: skip
async def test_whatever_its_own_issuer_signs_grants_scopes_or_nothing(other: dict[str, Any]) -> None:
    made = jwt.PyJWS().encode(json.dumps({**claims(), **other}).encode(), rsa_key(), "RS256", {"kid": "r0"})
    try:
        caller = await BEARERS.find(made)
    except Unauthenticated:
        return
    assert caller.subject
    assert caller.scopes <= set(SCOPES)


async def test_the_right_token_is_its_subjects() -> None:
    for made in (token(), token("e0", "ES256"), token(aud=["other", AUDIENCE]), token(headers={"typ": "at+jwt"})):
        caller = await bearers().find(made)
        assert (caller.subject, caller.kind, caller.issuer, caller.scopes) == ("shop", "token", ISSUER, set(SCOPES))


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({"scope": "recommend other:thing admin"}, {"recommend", "admin"}),
        ({"scope": ["recommend"]}, {"recommend"}),
        ({"scope": None, "scp": "privacy"}, {"privacy"}),
        ({"scope": None, "scp": ["models:promote"]}, {"models:promote"}),
        ({"scope": "RECOMMEND recommend2 events"}, set()),
        ({"scope": None}, set()),
        ({"scope": {"recommend": True}}, set()),
    ],
)
async def test_scopes_are_read_as_issuers_write_them(said: dict[str, Any], means: set[str]) -> None:
    assert (await bearers().find(token(**said))).scopes == means


async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    now = int(time.time())
    await bearers().find(token(exp=now - 2))
    await bearers().find(token(nbf=now + 3, iat=now + 3))
    with pytest.raises(Unauthenticated, match="expired"):
        await bearers().find(token(exp=now - 8))
    with pytest.raises(Unauthenticated, match="not valid yet"):
        await bearers().find(token(nbf=now + 30))


async def test_a_token_is_verified_once_and_forgotten_when_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, of_jwt = [], jwt.decode
    monkeypatch.setattr(module.jwt, "decode", lambda *words, **more: checked.append(1) or of_jwt(*words, **more))
    here, made = bearers(), token(exp=int(time.time()) + 100)
    for _ in range(3):
        await here.find(made)
    assert len(checked) == 1
    later = time.time() + 101 + LEEWAY_S
    monkeypatch.setattr(module.time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        await bearers_at(here, made, later, monkeypatch)
    assert len(checked) == 2


async def bearers_at(here: Tokens, made: str, now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask when it is `now` for PyJWT too, which looks at the calendar."""

    class Later(jwt.api_jwt.datetime):  # type: ignore[name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(now, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Later)
    await here.find(made)


async def test_a_remembered_token_is_forgotten_when_its_key_is_withdrawn() -> None:
    shown = Shown()
    keys = key_set(shown)
    here, made = Tokens(keys, Expected(ISSUER, AUDIENCE, LEEWAY_S)), token()
    await here.find(made)
    shown.content = key_document(jwk(ec_key(), "e0"))
    await keys.load()
    with pytest.raises(Unauthenticated):
        await here.find(made)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    here = bearers()
    for number in range(6):
        await here.find(token(sub=f"s{number}"))
    assert len(here._remembered) == 3


async def test_no_credential_enters_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Nor an answer, nor a metric: of what is right, wrong, or nearly right."""
    caplog.set_level(logging.DEBUG)
    key, file = new_key()
    wrong_key = key[:-4] + "0000"
    secrets = [token(), HOSTILE["expired"], HOSTILE["signature changed"], key, wrong_key]
    async with faces(guard(file)) as both:
        said = []
        for text in secrets:
            name = "x-api-key" if text.startswith("winnow_") else "authorization"
            value = text if name == "x-api-key" else bearer(text)["authorization"]
            answer = await both.http.get("/v1/trending", headers={name: value})
            said.append(answer.text + str(answer.headers))
        said.append((await both.http.get("/metrics", headers=bearer(token()))).text)
    everything = caplog.text + "".join(said)
    for text in secrets:
        assert all(part not in everything for part in (text, text[-40:], text.rpartition(".")[2][:40]))


async def test_the_size_of_a_token_is_looked_at_before_anything_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "header_of", lambda text: pytest.fail("parsed"))
    with pytest.raises(Unauthenticated):
        await bearers().find(token(padding="x" * MAX_BYTES))
