"""Services prove who they are, both ways, and nobody is dropped when certificates change."""

import asyncio
import logging
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from pydantic import ValidationError

from services.gateway.settings import Settings
from tests.certificates import certified, inside, issued, outside, reissued
from winnow import authority
from winnow.errors import Unavailable
from winnow.requests import Readiness
from winnow.serving.certificates import CertificateRefused, Files, Pems, judge, read
from winnow.serving.connect import OPTIONS, connect, connect_face
from winnow.serving.http import serve_http
from winnow.serving.identity import Identity, Inside
from winnow.serving.serve import RunningServer, serve_grpc
from winnow.serving.settings import words_of
from winnow.serving.tls import channel_credentials
from winnow.types import CataloguePage, Person, UserState
from winnow.wire.feature import FeatureClient, register

SOON_S = 10.0  # what is refused is refused at once; what is answered may wait for a starved machine


class People:
    """A Features port of ten lines."""

    async def users(self, people: Sequence[Person]) -> list[UserState]:
        await asyncio.sleep(0.02)
        return [UserState(person) for person in people]

    async def catalogue(self, after: int, limit: int, images: bool = False) -> CataloguePage:
        return CataloguePage((), 1, False)

    async def ready(self) -> Readiness:
        return Readiness(True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that no test changes."""
    return certified(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def serving(own: Inside | None, **more: Any) -> AsyncIterator[RunningServer]:
    port: Any = People()
    server = await serve_grpc([register(port)], "127.0.0.1:0", grace_s=0.2, tls=own, **more)
    try:
        yield server
    finally:
        await server.stop()


async def ask(address: str, own: Inside | None) -> list[UserState]:
    async with connect(address, own, "feature") as channel:
        return await asyncio.wait_for(FeatureClient(channel, timeout_s=SOON_S).users([Person("u")]), SOON_S + 1)


def bare(address: str, pems: Pems, name: str = "feature.winnow") -> grpc.aio.Channel:
    """A channel by whoever does not judge its own certificate first."""
    options = (*OPTIONS, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(address, channel_credentials(pems), options=options)


def pems(folder: Path) -> Pems:
    return read(Files.within("test", folder, mutual=True))


async def until(holds: Callable[[], bool]) -> None:
    """Returns once it does: a starved machine needs longer for it."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_gateway_is_answered_and_strangers_are_not(folder: Path, tmp_path: Path) -> None:
    foreign = certified(tmp_path / "foreign")
    async with serving(inside(folder, "feature")) as server:
        assert [user.person.user_id for user in await ask(server.address, inside(folder, "gateway"))] == ["u"]
        for stranger in (inside(foreign, "gateway"), None):
            with pytest.raises(Unavailable):
                await ask(server.address, stranger)
        late = issued(folder, tmp_path / "late", "gateway.winnow", lifetime=timedelta(minutes=-1))
        shown = pems(late)
        for refused in (
            shown,
            Pems(pems(foreign / "gateway").certificate, pems(foreign / "gateway").key, shown.authorities),
        ):
            async with bare(server.address, refused) as channel:
                with pytest.raises(Unavailable):
                    await FeatureClient(channel, timeout_s=SOON_S).users([Person("u")])


async def test_a_service_is_answered_only_where_the_diagram_has_an_arrow(folder: Path) -> None:
    own = inside(folder, "explanation")
    async with serving(inside(folder, "feature")) as server, connect(server.address, own, "feature") as channel:
        client = FeatureClient(channel, timeout_s=SOON_S)
        assert (await client.catalogue(0, 10)).watermark == 1
        with pytest.raises(Unavailable, match=r"explanation\.winnow may not call Users"):
            await client.users([Person("u")])


@pytest.mark.parametrize("name", ["explanation.winnow", "feature.elsewhere"])
async def test_another_service_is_not_taken_for_the_one_that_was_meant(folder: Path, tmp_path: Path, name: str) -> None:
    impostor = issued(folder, tmp_path / "impostor" / "feature", name)
    files = Files.within("test", impostor, mutual=True)
    async with serving(Inside(*name.split("."), files, every_s=1)) as server:  # type: ignore[misc]
        with pytest.raises(Unavailable, match="it cannot prove who it is"):
            await ask(server.address, inside(folder, "gateway"))


async def test_a_server_with_an_expired_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    async with serving(inside(short(folder, tmp_path), "feature")) as server:
        ends = x509.load_pem_x509_certificate(pems(tmp_path / "feature").certificate).not_valid_after_utc
        await until(lambda: datetime.now(UTC) > ends + timedelta(seconds=0.1))  # other clocks go by ticks
        with pytest.raises(Unavailable, match="it cannot prove who it is"):
            await ask(server.address, inside(folder, "gateway"))


def short(folder: Path, tmp_path: Path) -> Path:
    """A feature service's certificate that lasts until the server is up: two to three seconds, for it knows whole ones."""
    issued(folder, tmp_path / "feature", "feature.winnow", lifetime=timedelta(seconds=3))
    return tmp_path


async def test_probes_need_no_certificate_and_learn_nothing_but_health(folder: Path) -> None:
    async with serving(inside(folder, "feature"), health_address="127.0.0.1:0") as server:
        async with grpc.aio.insecure_channel(server.health_address) as channel:
            await asyncio.sleep(0.1)
            health = health_pb2_grpc.HealthStub(channel)
            assert (
                await health.Check(health_pb2.HealthCheckRequest())
            ).status == health_pb2.HealthCheckResponse.SERVING
            await server.leave()
            answer = await health.Check(health_pb2.HealthCheckRequest(service="winnow.v1.FeatureService"))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(Exception, match="Method not found"):
            await ask(server.health_address, None)


class Askers:
    """Callers over one channel, all the time; how many were answered, and what went wrong."""

    def __init__(self, channel: grpc.aio.Channel, number: int = 4) -> None:
        self.answered, self.failed = 0, list[str]()
        self._another = asyncio.Event()
        self._client = FeatureClient(channel, timeout_s=5)
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(number)]

    async def _ask(self) -> None:
        while True:
            try:
                await self._client.users([Person("u")])
                self.answered += 1
                self._another.set()
            except Unavailable as lost:
                self.failed.append(lost.detail)

    async def beyond(self, calls: int) -> None:
        """Returns when so many were answered: a starved machine needs longer for them."""
        async with asyncio.timeout(30):
            while self.answered < calls:
                self._another.clear()
                await self._another.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def serial_of(address: str, own: Inside) -> int:
    """Of the certificate that the server shows to a new connection."""
    context = ssl.create_default_context(cadata=own.pems.authorities.decode())
    context.check_hostname = False
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    del reader
    shown = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return int(shown, 16)


async def test_certificates_and_then_authorities_change_under_calls_and_none_fails(tmp_path: Path) -> None:
    folder = certified(tmp_path)
    feature, gateway = inside(folder, "feature"), inside(folder, "gateway")
    watches = [asyncio.create_task(one.watch()) for one in (feature, gateway)]
    async with serving(feature) as server, connect(server.address, gateway, "feature") as channel:
        askers = Askers(channel)
        seen = [await serial_of(server.address, gateway)]
        turns = (reissued, reissued, lambda f: certified(f, new_authority=True), certified, certified, reissued)
        for number, turn in enumerate(turns, 1):
            await asyncio.sleep(0.1)
            turn(folder)
            await until(lambda: feature.pems == pems(folder / "feature"))
            await until(lambda: channel.now.pems == pems(folder / "gateway"))  # type: ignore[attr-defined]
            await askers.beyond(35 * number)
            seen.append(await serial_of(server.address, gateway))
        await askers.stop()
    for watch in watches:
        watch.cancel()
    assert len(set(seen)) == 5  # twice reissued, signed anew, reissued
    assert askers.failed == []
    assert askers.answered > 200


async def test_the_old_channel_serves_while_the_peer_does_not_know_the_new_authority(tmp_path: Path) -> None:
    ours, theirs = certified(tmp_path / "ours"), tmp_path / "theirs"
    shutil.copytree(ours, theirs)
    feature, gateway = inside(theirs, "feature"), inside(ours, "gateway")
    async with serving(feature) as server, connect(server.address, gateway, "feature") as channel:
        askers = Askers(channel, 2)
        await asyncio.sleep(0.1)
        for more in (True, False):  # a new authority signs for us, and the peer has not read of it
            certified(ours, new_authority=more)
        assert gateway.look()
        await asyncio.sleep(1.0)
        shutil.rmtree(theirs)
        shutil.copytree(ours, theirs)
        assert feature.look()
        await until(lambda: channel.now.pems is gateway.pems)  # type: ignore[attr-defined]
        await askers.beyond(51)
        await askers.stop()
    assert askers.failed == []


def counted(name: str, certificate: str) -> float:
    return REGISTRY.get_sample_value(name, {"certificate": certificate}) or 0.0


BROKEN = {
    "is not the key of": lambda folder, feature: (feature / "tls.key").write_bytes(
        (folder / "gateway" / "tls.key").read_bytes()
    ),
    "holds no certificate": lambda folder, feature: (feature / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\n"),
    "cannot read": lambda folder, feature: (feature / "tls.key").unlink(),
    "is of nobody.winnow": lambda folder, feature: issued(folder, feature, "nobody.winnow"),
    "expired": lambda folder, feature: issued(folder, feature, "feature.winnow", lifetime=timedelta(minutes=-1)),
    "0 bytes": lambda folder, feature: (feature / "ca.crt").write_text(""),
    "signed": lambda folder, feature: (feature / "ca.crt").write_bytes(
        (certified(folder.parent / "foreign") / "gateway" / "ca.crt").read_bytes()
    ),
}


@pytest.mark.parametrize("why", BROKEN)
async def test_what_cannot_be_served_with_is_refused_once_and_the_old_one_stays(
    why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = certified(tmp_path / "own")
    own = inside(folder, "feature")
    before, refused = own.pems, counted("winnow_certificates_refused_total", "inside")
    BROKEN[why](folder, folder / "feature")
    with pytest.raises(CertificateRefused, match=why):
        inside(folder, "feature")
    with caplog.at_level(logging.ERROR):
        assert [own.look() for _ in range(4)] == [False] * 4
    assert own.pems is before
    assert counted("winnow_certificates_refused_total", "inside") == refused + 1
    [line] = caplog.messages
    assert why in line
    assert "PRIVATE" not in line + repr(before)
    certified(folder)  # mended
    (folder / "feature" / "tls.crt").unlink()
    certified(folder)
    assert own.look()


def test_how_long_a_certificate_and_its_authority_last_is_shown(folder: Path) -> None:
    inside(folder, "ranking")
    for certificate, days in (("inside", 90), ("authority", 3_650)):
        until = counted("winnow_certificate_expiry_timestamp_seconds", certificate)
        assert until == pytest.approx(time.time() + days * 86_400, abs=120)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tls_cert": "a", "tls_key": "b"}, "WINNOW_TLS_CA is not set, and WINNOW_TLS_CERT is"),
        ({"tls_key": "b"}, "WINNOW_TLS_CERT is not set, and WINNOW_TLS_KEY is"),
        ({"tls_folder": "x", "tls_ca": "c"}, "WINNOW_TLS_FOLDER and WINNOW_TLS_CA are both set"),
        ({"face_tls_cert": "a"}, "WINNOW_FACE_TLS_KEY is not set, and WINNOW_FACE_TLS_CERT is"),
        ({"health_address": "nowhere"}, "WINNOW_HEALTH_ADDRESS: give host:port"),
        ({"redis_url": "localhost"}, "WINNOW_REDIS_URL: give redis://host:port/0"),
    ],
)
def test_half_a_configuration_stops_the_start_and_names_the_variable(given: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Settings(**given)  # type: ignore[arg-type]
    assert words_of(wrong.value).startswith(words)


def test_without_settings_there_is_no_tls_and_a_folder_that_is_not_there_is_named() -> None:
    assert (Settings().inside("gateway"), Settings().face()) == (None, None)
    with pytest.raises(CertificateRefused, match=r"^WINNOW_TLS_FOLDER: cannot read .*ca\.crt: no such file"):
        Settings(tls_folder="/nowhere").inside("gateway")


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application of two lines."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


async def test_the_rest_face_takes_a_new_certificate_and_drops_no_request(tmp_path: Path) -> None:
    folder = certified(tmp_path)
    face: Identity = outside(folder)
    running = await serve_http(hello, "127.0.0.1:0", grace_s=1, tls=face)
    own = inside(folder, "gateway")
    trusted = ssl.create_default_context(cadata=own.pems.authorities.decode())
    async with httpx.AsyncClient(base_url=f"https://{running.address}", verify=trusted) as http:
        serials = [await serial_of(running.address, own)]
        for _ in range(2):
            assert (await http.get("/")).text == "hi"
            reissued(folder)
            assert face.look()
            serials.append(await serial_of(running.address, own))
        assert len(set(serials)) == 3
        assert (await http.get("/")).text == "hi"
    old = ssl.create_default_context(cadata=own.pems.authorities.decode())
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection(*running.address.split(":"), ssl=old)  # type: ignore[arg-type]
    await running.stop()


async def test_the_grpc_face_proves_its_host_and_asks_callers_for_no_certificate(folder: Path, tmp_path: Path) -> None:
    port: Any = People()
    server = await serve_grpc([register(port)], "127.0.0.1:0", grace_s=0.1, tls=outside(folder))
    foreign = certified(tmp_path)
    for known, answered in ((folder, True), (foreign, False)):
        async with connect_face(server.address, (known / "face" / "ca.crt").read_bytes()) as channel:
            client = FeatureClient(channel, timeout_s=SOON_S)
            if answered:
                assert len(await client.users([Person("u")])) == 1
            else:
                with pytest.raises(Unavailable, match="it cannot prove who it is"):
                    await client.users([Person("u")])
    await server.stop()


async def test_who_leaves_says_so_and_answers_to_the_end() -> None:
    running = await serve_http(hello, "127.0.0.1:0", grace_s=1)
    async with httpx.AsyncClient(base_url=f"http://{running.address}") as http:
        assert "connection" not in (await http.get("/")).headers
        await running.leave()
        for path, status in (("/readyz", 503), ("/v1/recommendations", 200)):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["connection"]) == (status, "close")
    await running.stop()


@pytest.mark.parametrize("kind", ["rsa-1024", "ed25519", "secp256k1"])
def test_a_key_that_tls_would_not_serve_with_is_refused_and_the_old_one_stays(tmp_path: Path, kind: str) -> None:
    folder = certified(tmp_path)
    own = inside(folder, "feature", every_s=60)
    served = own.pems
    key: Any = {
        "rsa-1024": lambda: rsa.generate_private_key(65_537, 1_024),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    }[kind]()
    signer = authority.load(folder / "authority", authority.CURRENT)
    (folder / "feature" / "tls.key").write_bytes(authority.key_pem(key))
    weak = authority.leaf(["feature.winnow"], key, signer, timedelta(days=1))
    (folder / "feature" / "tls.crt").write_bytes(authority.pem(weak))
    assert not own.look()
    assert not own.look()
    assert own.pems == served
    with pytest.raises(CertificateRefused, match="no RSA key of 2048 bits"):
        judge(Files.within("test", folder / "feature", mutual=True), pems(folder / "feature"))
