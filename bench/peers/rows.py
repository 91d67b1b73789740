"""500 items' features for one request: Feast's own Python server and SDK beside Winnow's direct reader, over one Redis.

The rows are the very same ones, written once in Feast's layout. One caller at a time; CPU is that of the reading
process, which for the server is Feast's and for the others this one. Redis works for all three alike.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil

from bench.features import REPOSITORY, ROWS, TIMEOUT_S, WARM, Shop, declared, shop_served, write_items
from bench.peers.trial import QUIET, Failed, Row, answers_at, one_line
from parts.program import HOST, Program, free_ports, group_of, running
from winnow.errors import WinnowError
from winnow.feast_layout import Layout
from winnow.feature_views import SERVICES
from winnow.redis import Hashes, connect

CALLS = 40
ANSWER_S = 30.0
READY_S = 120.0


def feature_rows() -> list[Row]:
    """Three ways to the same rows; a row that says why where something is not installed or fails."""
    title = f"Feast's server, {ROWS} rows"
    try:
        with shop_served() as shop:
            write_items(shop)
            names = declared(shop)[1]
            return [direct(shop), sdk(shop), server(shop, names, title)]
    except (WinnowError, Failed, ImportError, psutil.Error) as failed:
        return [Row("feast-server", title, fault=one_line(str(failed)))]


def direct(shop: Shop) -> Row:
    layout, hashes = Layout(SERVICES["item"]), Hashes(connect(shop.redis_url, TIMEOUT_S))
    asked = [shop.some_items() for _ in range(WARM)]

    def read(n: int) -> object:
        return layout.columns(layout.read(asked[n % WARM], hashes, time.time()))

    return Row("winnow-direct", f"Winnow's direct reader, {ROWS} rows", timed(read, own_cpu_ms))


def sdk(shop: Shop) -> Row:
    store, names = declared(shop)
    asked = [{"item_id": item_id} for item_id in shop.some_items()]
    figures = timed(lambda _: store.get_online_features(names, asked).to_dict(), own_cpu_ms)
    return Row("feast-sdk", f"Feast's SDK in process, {ROWS} rows", figures)


def server(shop: Shop, names: list[str], title: str) -> Row:
    """`feast serve` with its one worker, asked over one connection that stays open."""
    [port] = free_ports(1)
    feast = str(Path(sys.executable).parent / "feast")
    command = (feast, "-c", str(REPOSITORY), "serve", "-h", HOST, "-p", str(port), "--no-access-log")
    program = Program("feast", command, shop.home.parent, lambda: answers_at(port), QUIET, ready_s=READY_S)
    body = {"features": names, "entities": {"item_id": shop.some_items()}}
    with (
        running(program) as [started],
        httpx.Client(base_url=f"http://{HOST}:{port}", timeout=ANSWER_S, trust_env=False) as client,
    ):

        def read(_: int) -> object:
            answer = client.post("/get-online-features", json=body)
            if answer.status_code != 200:
                raise Failed(f"status {answer.status_code}: {answer.text}")
            if len(answer.json()["results"][0]["values"]) != ROWS:
                raise Failed(f"not {ROWS} rows")
            return answer

        return Row("feast-server", title, timed(read, lambda: cpu_ms_of(group_of(started.process.pid))))


def timed(read: Callable[[int], object], cpu_ms: Callable[[], float]) -> dict[str, float]:
    """Milliseconds a call, and CPU a call of whoever `cpu_ms` reads the clock of."""
    for n in range(3):
        read(n)
    took, before = [], cpu_ms()
    for n in range(CALLS):
        began = time.perf_counter()
        read(n)
        took.append((time.perf_counter() - began) * 1000)
    cpu = (cpu_ms() - before) / CALLS
    return {"p50_ms": float(np.median(took)), "p99_ms": float(np.percentile(took, 99)), "cpu_ms": cpu}


def own_cpu_ms() -> float:
    return time.process_time() * 1000


def cpu_ms_of(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes) * 1000
