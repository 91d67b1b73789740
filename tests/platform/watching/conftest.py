"""Five processes with Redis, a broker and Triton under a load, and a real Prometheus that has watched them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, start_http_server

from cli.schedule import Metrics as JobMetrics
from jobs.progress import Metrics as StreamMetrics
from parts.kafka import kafka
from parts.program import HOST, Running, free_ports, launch, running, start
from parts.prometheus import configure, prometheus
from parts.redis import redis
from parts.services import INNER, environment, gateway, inner
from tests.homes import copy_of, registry_of
from tests.platform.watching.load import PEOPLE, Load, frozen, streamed, turned
from tests.promql import rule_files
from tests.tritons import serving

SCRAPE_S = 0.5
LOAD_S = 6.0
SCRAPED = ("stream", "schedule", "prometheus", *INNER)


@dataclass(frozen=True)
class Watched:
    """A Prometheus that has seen all this, and the pages that it scrapes."""

    http: httpx.Client
    pages: tuple[str, ...]
    more: Callable[[], None]
    """People do more: on a starved machine Prometheus may have come too late for what was done first."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        return self._data("query", query=expression)["result"]  # type: ignore[no-any-return]

    def labels_of(self, metric: str) -> list[dict[str, str]]:
        """Of every series of the metric."""
        return self._data("series", **{"match[]": metric})  # type: ignore[no-any-return]

    def groups(self) -> list[dict[str, Any]]:
        """Of rules."""
        return self._data("rules")["groups"]  # type: ignore[no-any-return]

    def _data(self, path: str, **parameters: str) -> Any:
        answer = self.http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]


@pytest.fixture(scope="session")
def watched(served_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watching")
    ports = dict(zip(("rest", "gateway", "redis", "kafka", *SCRAPED), free_ports(11), strict=False))
    metrics = dict(zip(INNER, free_ports(len(INNER)), strict=True))
    home = copy_of(served_home, folder / "home")
    settings = environment(home, ports) | registry_of(served_home) | {"WINNOW_POPULAR_EVERY_S": "1"}
    settings |= {"WINNOW_REDIS_URL": f"redis://{HOST}:{ports['redis']}/0"}
    settings |= {"WINNOW_KAFKA_BOOTSTRAP": f"{HOST}:{ports['kafka']}"}
    with ExitStack() as stack:
        parts = redis(folder / "redis", ports["redis"]), kafka(folder / "kafka", ports["kafka"])
        stack.enter_context(running(*parts))
        triton = stack.enter_context(serving(folder / "triton"))
        models = {"WINNOW_TRITON_ADDRESS": triton.address, "WINNOW_TRITON_REPOSITORY": str(triton.repository)}
        started = {}
        for name in INNER:
            own = {"WINNOW_METRICS_ADDRESS": f"{HOST}:{metrics[name]}"} | (models if name == "ranking" else {})
            started[name] = launch(inner(name, folder / "services", ports[name], settings | own))
            stack.callback(started[name].stop)
        face = start(gateway(folder / "services", ports["rest"], settings))
        stack.callback(face.stop)
        jobs = exporters(stack, ports)
        targets = {f"winnow-{name}": port for name, port in {**metrics, "gateway": ports["rest"]}.items()}
        targets |= {"winnow-stream": ports["stream"], "winnow-schedule": ports["schedule"]}
        configure(folder / "prometheus", targets, rule_files(), every_s=SCRAPE_S)
        server = stack.enter_context(running(prometheus(folder / "prometheus", ports["prometheus"])))
        assert server
        address = f"http://{HOST}:{ports['rest']}"
        load = Load(stack.enter_context(httpx.Client(base_url=address, timeout=30)))
        pressed(load, started, *jobs)
        http = stack.enter_context(httpx.Client(base_url=f"http://{HOST}:{ports['prometheus']}", timeout=10))
        time.sleep(3 * SCRAPE_S)
        pages = tuple(f"http://{HOST}:{port}/metrics" for port in targets.values())
        yield Watched(http, pages, partial(one_round, load, *jobs))
    shutil.rmtree(folder, ignore_errors=True)


def exporters(stack: ExitStack, ports: dict[str, int]) -> tuple[StreamMetrics, JobMetrics]:
    """The metrics of Spark's driver and of the scheduler, without the half minute that starting Spark takes."""
    registry = CollectorRegistry()
    stream, jobs = StreamMetrics(registry), JobMetrics()
    for name, one in (("stream", registry), ("schedule", jobs.registry)):
        server, thread = start_http_server(ports[name], HOST, registry=one)
        stack.callback(thread.join, 5)
        stack.callback(server.shutdown)
    return stream, jobs


def pressed(load: Load, services: dict[str, Running], stream: StreamMetrics, jobs: JobMetrics) -> None:
    """People for a while; the explanation service is frozen for a moment of it."""
    load.refused()
    until, rounds = time.monotonic() + LOAD_S, 0
    while time.monotonic() < until or rounds < 4:
        one_round(load, stream, jobs)
        rounds += 1
        if rounds == 3:
            with frozen(services["explanation"].process):
                load.visit(PEOPLE[0])


def one_round(load: Load, stream: StreamMetrics, jobs: JobMetrics) -> None:
    for user in PEOPLE[:5]:
        load.visit(user)
    load.others()
    streamed(stream)
    turned(jobs)
