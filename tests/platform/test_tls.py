"""Six processes behind TLS: certificates and authorities change under load, strangers are refused and a page still comes,
and one of two gateways ends without anybody noticing.

The tests run in the order of this file: the last one ends a gateway.
"""

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from typer.testing import CliRunner

from bench.processes import process
from cli.main import app
from parts.program import free_ports, tail
from parts.services import INNER, environment
from tests.balanced import Balanced
from tests.brokers import eventually
from tests.certificates import certified, inside, issued, reissued
from tests.homes import copy_of, registry_of
from training.dataset import load
from winnow.errors import Unavailable
from winnow.ports import RankQuery
from winnow.requests import Readiness
from winnow.serving.certificates import Files, read
from winnow.serving.connect import OPTIONS
from winnow.serving.identity import Inside
from winnow.serving.serve import serve_grpc
from winnow.serving.tls import channel_credentials
from winnow.wire import ranking
from winnow.wire.feature import FeatureClient

RATE = 100.0  # requests a second, where the machine can
LEAST_RATE = 2.0
EVERY_S = 0.3
DRAIN_S = 6.0  # far more than it takes until a probe is asked and nobody begins a new connection
READY_S = 120.0
TAKEN = re.compile(rb'"at":"([^"]+)".*"another certificate (\w+),')
MS = 1e-3  # to which a line of a log is exact
SETTINGS = {
    "WINNOW_TLS_EVERY_S": str(EVERY_S),
    "WINNOW_CANDIDATES": "50",  # what is looked at are connections
    # A busy machine must not make a stage late: what is skipped here is a connection that failed.
    "WINNOW_FEATURE_BUDGET_MS": "8000",
    "WINNOW_RETRIEVAL_BUDGET_MS": "8000",
    "WINNOW_RANKING_BUDGET_MS": "8000",
    "WINNOW_EXPLANATION_BUDGET_MS": "8000",
}

pytestmark = [pytest.mark.platform, pytest.mark.slow]


@dataclass
class Secured:
    """Four inner services and two gateways, all with certificates of one authority."""

    certificates: Path
    ports: dict[str, int]
    rests: tuple[int, int]
    processes: dict[str, subprocess.Popen[bytes]]
    logs: Path
    people: list[str]
    start: Any

    @property
    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificates / "face" / "ca.crt"))

    def balanced(self) -> Balanced:
        return Balanced(self.rests, self.people, self.trusted)

    def answer(self, rest: int = 0) -> dict[str, Any]:
        with httpx.Client(verify=self.trusted, timeout=20) as http:
            told = http.post(
                f"https://localhost:{self.rests[rest]}/v1/recommendations", json={"user_id": self.people[0], "n": 10}
            )
        assert told.status_code == 200, told.text
        found: dict[str, Any] = told.json()
        return found

    def complete(self) -> None:
        """Returns once no answer lacks anything, of either gateway: each has its own connections and its own breakers."""
        until = time.monotonic() + READY_S
        for rest in range(len(self.rests)):
            while (skipped := self.answer(rest)["skipped"]) and time.monotonic() < until:
                time.sleep(0.2)
            assert skipped == []

    def taken(self) -> bool:
        """Whether every process has said since its files were written that it took them."""
        for name in self.processes:
            log = (self.logs / f"{name}.log").read_bytes()
            told = {use: datetime.fromisoformat(at.decode()).timestamp() for at, use in TAKEN.findall(log)}
            files = {b"inside": [*(self.certificates / name.removesuffix("2")).iterdir()]}
            if name.startswith("gateway"):
                files[b"face"] = [self.certificates / "face" / file for file in ("tls.crt", "tls.key")]
            written = {use: max(file.stat().st_ctime for file in each) for use, each in files.items()}
            if any(told.get(use, 0.0) < at - MS for use, at in written.items()):
                return False
        return True


@pytest.fixture(scope="module")
def secured(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificates = certified(folder / "certificates")
    home, logs = copy_of(served_home, folder / "home"), folder / "logs"
    logs.mkdir()
    ports = dict(zip(("rest", "gateway", "rest2", "gateway2", *INNER), free_ports(4 + len(INNER)), strict=True))
    people = [person.user_id for person in load(served_home).people if person.user_id][:100]
    with ExitStack() as stack:

        def start(name: str) -> None:
            service = name.removesuffix("2")
            own = environment(home if name == service else folder / "home2", ports)
            own |= SETTINGS | registry_of(served_home) | {"WINNOW_TLS_FOLDER": str(certificates / service)}
            if service == "gateway":
                own |= {"WINNOW_FACE_TLS_FOLDER": str(certificates / "face")}
                own |= {f"WINNOW_{f.upper()}_ADDRESS": f"127.0.0.1:{ports[name.replace('gateway', f)]}" for f in FACES}
            own |= {"WINNOW_DRAIN_S": str(DRAIN_S)} if name == "gateway2" else {}
            processes[name] = stack.enter_context(
                process(f"services.{service}", os.environ | own, logs / f"{name}.log")
            )

        processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in (*INNER, "gateway", "gateway2"):
            start(name)
        rests = (ports["rest"], ports["rest2"])
        made = Secured(certificates, ports, rests, processes, logs, people, start)
        for rest in rests:
            until_ready(made, rest)
        made.complete()
        yield made


FACES = ("rest", "gateway")


def until_ready(platform: Secured, rest: int) -> None:
    until, said = time.monotonic() + READY_S, ""
    with httpx.Client(verify=platform.trusted, timeout=2) as http:
        while time.monotonic() < until:
            try:
                answer = http.get(f"https://localhost:{rest}/readyz")
            except httpx.TransportError as away:
                said = repr(away)
            else:
                if answer.is_success:
                    return
                said = answer.text
            time.sleep(0.2)
    raise AssertionError(
        said + "".join(f"\n{name}: {tail(platform.logs / f'{name}.log')}" for name in platform.processes)
    )


async def shown_at(port: int) -> str:
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return str(hash(der))


async def test_certificates_and_authorities_change_under_load_and_no_request_fails(secured: Secured) -> None:
    ports = [*secured.rests, *(secured.ports[name] for name in ("gateway", *INNER))]
    balanced = secured.balanced()
    turns = {
        "reissued": lambda: reissued(secured.certificates),
        "a new authority is announced": lambda: certified(secured.certificates, new_authority=True),
        "it signs": lambda: certified(secured.certificates),
        "the former one is forgotten": lambda: certified(secured.certificates),
        "reissued again": lambda: reissued(secured.certificates),
    }
    serials = [[await shown_at(port) for port in ports]]
    async with balanced.asking(RATE) as seen:
        for name, turn in turns.items():
            await asyncio.sleep(1.0)
            turn()
            await asyncio.to_thread(eventually, secured.taken, READY_S)
            balanced.tls = secured.trusted  # a caller learns of a new authority too
            serials.append([await shown_at(port) for port in ports])
            print(f"{name}: {len(seen.latencies_s)} answers, failed {dict(seen.failed)}, skipped {dict(seen.skipped)}")
    print(f"certificates under load: {seen.told()}")
    for port in range(len(ports)):
        assert len({serial[port] for serial in serials}) == 4  # first, reissued, by the new authority, reissued
    assert not seen.failed
    assert not seen.skipped
    assert seen.held > LEAST_RATE


async def test_real_services_refuse_strangers(secured: Secured, tmp_path: Path) -> None:
    foreign = certified(tmp_path / "foreign")
    late = issued(secured.certificates, tmp_path / "late", "gateway.winnow", lifetime=timedelta(minutes=-1))
    other = secured.certificates / "explanation"
    strangers = {"a foreign authority": foreign / "gateway", "expired": late, "another service": other}
    for why, folder in strangers.items():
        shown = read(Files(why, folder / "tls.crt", folder / "tls.key", secured.certificates / "gateway" / "ca.crt"))
        options = (*OPTIONS, ("grpc.ssl_target_name_override", "feature.winnow"))
        address = f"127.0.0.1:{secured.ports['feature']}"
        async with grpc.aio.secure_channel(address, channel_credentials(shown), options=options) as channel:
            with pytest.raises(Unavailable) as refused:
                await FeatureClient(channel, timeout_s=5).users([])
        print(f"{why}: {refused.value.detail}")
    assert secured.answer()["skipped"] == []


def test_the_command_line_asks_by_both_faces(secured: Secured, tmp_path: Path) -> None:
    ca = secured.certificates / "face" / "ca.crt"
    rest, face = f"https://127.0.0.1:{secured.rests[0]}", f"127.0.0.1:{secured.ports['gateway']}"
    for where in (["--url", rest], ["--grpc", face]):
        told = CliRunner().invoke(app, ["recommend", "--user", secured.people[0], "--json", "--ca", str(ca), *where])
        assert told.exit_code == 0, told.output
        assert len(json.loads(told.stdout)["items"]) == 10
        foreign = certified(tmp_path / "foreign") / "face" / "ca.crt"
        for other in (["--ca", str(foreign)], []):
            refused = CliRunner().invoke(app, ["recommend", "--user", "u", *other, *where])
            assert isinstance(refused.exception, Unavailable)


class Impostor:
    """A ranker that would answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def rank(self, queries: list[RankQuery]) -> list[Any]:
        self.asked += 1
        raise Unavailable("nobody should have asked")

    async def ready(self) -> Readiness:  # asked by its own server
        return Readiness(True)


@pytest.mark.parametrize("fault", ["a foreign authority", "expired", "another service"])
async def test_an_impostor_is_not_spoken_to_and_the_page_comes_without_its_stage(
    secured: Secured, tmp_path: Path, fault: str
) -> None:
    real = secured.processes["ranking"]
    if real.poll() is None:
        real.send_signal(signal.SIGKILL)
        real.wait(10)
    impostor: Any = Impostor()
    own = disguised(secured, tmp_path, fault)
    address = f"127.0.0.1:{secured.ports['ranking']}"
    if fault == "expired":
        await asyncio.sleep(1.1)
    server = await serve_grpc([ranking.register(impostor)], address, grace_s=0.1, tls=own)
    try:
        for _ in range(15):  # more than the breaker takes, and long enough for it to ask again
            assert (await asyncio.to_thread(secured.answer))["skipped"] == ["ranking"]
            await asyncio.sleep(0.1)
    finally:
        await server.stop()
    assert impostor.asked == 0


def disguised(secured: Secured, tmp_path: Path, fault: str) -> Inside:
    if fault == "a foreign authority":
        return inside(certified(tmp_path), "ranking")
    if fault == "another service":
        return inside(secured.certificates, "explanation")
    issued(secured.certificates, tmp_path / "ranking", "ranking.winnow", lifetime=timedelta(seconds=1))
    return inside(tmp_path, "ranking")


def test_the_real_one_is_taken_back(secured: Secured) -> None:
    secured.start("ranking")
    secured.complete()


async def test_one_of_two_gateways_ends_under_load_and_no_request_fails(secured: Secured) -> None:
    ending = secured.processes["gateway2"]
    async with secured.balanced().asking(RATE) as seen:
        await asyncio.sleep(3)
        ending.send_signal(signal.SIGTERM)
        told = time.monotonic()
        status = await asyncio.to_thread(ending.wait, 30)
        took_s = time.monotonic() - told
        at_end = seen.by_port[secured.rests[1]]
        await asyncio.sleep(3)
    print(f"SIGTERM of one of two gateways: ended {took_s:.1f} s later with {status}; {seen.told()}")
    assert status == 0
    assert took_s >= DRAIN_S
    assert seen.by_port[secured.rests[1]] == at_end > LEAST_RATE
    assert not seen.failed
    assert not seen.skipped
    assert seen.held > LEAST_RATE
