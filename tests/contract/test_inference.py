"""What every host of models must keep: in this process, on Triton, and on Triton by shared memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parts.program import alive
from tests.tritons import WIDTH, Server, serving, small_bundle
from winnow.artifacts import Bundle, seal
from winnow.errors import BundleRefused, DeadlineExceeded, ResourceExhausted, Unavailable
from winnow.inference import InProcess, Model, ModelFailed, ModelHost, OnnxModel
from winnow.model_repository import ModelRepository, Running
from winnow.pipeline import deadline_in
from winnow.serving.model_host import TritonHost
from winnow.serving.shared_memory import MOST, SharedTritonModel
from winnow.serving.triton import TritonModel, TritonServer, by_value

pytestmark = pytest.mark.platform

HOSTS = ("in process", "triton", "triton by shared memory")
FAR = HOSTS[1:]
PARTS = ("mixing", "meeting", "summing", "toiling")
Inputs = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("triton")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small", *PARTS)


def made(kind: str, server: Server, **options: Any) -> ModelHost:
    return InProcess() if kind == HOSTS[0] else server.host(shared=kind == HOSTS[2], timeout_s=60.0, **options)


@pytest.fixture(scope="module", params=HOSTS)
def models(request: pytest.FixtureRequest, server: Server, bundle: Bundle) -> Iterator[dict[str, Model]]:
    with closing(made(request.param, server)) as host:
        yield host.load(bundle, PARTS)


@pytest.fixture(scope="module", params=FAR)
def far(request: pytest.FixtureRequest, server: Server, bundle: Bundle) -> Iterator[dict[str, Model]]:
    with closing(made(request.param, server)) as host:
        yield host.load(bundle, PARTS)


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> dict[str, OnnxModel]:
    return {part: OnnxModel(bundle.file(f"{part}.onnx")) for part in PARTS}


def mixing(n: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    return {"ids": rng.integers(0, 10, (n, 3)), "numbers": rng.standard_normal((n, 2), np.float32)}


def meeting(b: int, n: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    return {"user": rng.random((b, 4), np.float32), "items": rng.random((b, n, 4), np.float32)}


def same(got: Inputs, wanted: Inputs) -> None:
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        assert (got[name].dtype, got[name].shape) == (values.dtype, values.shape)
        np.testing.assert_allclose(got[name], values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 37, 5_000])
def test_any_number_of_rows_answers_as_onnx_runtime_does(
    models: dict[str, Model], expected: dict[str, OnnxModel], n: int
) -> None:
    same(models["mixing"].run(mixing(n)), expected["mixing"].run(mixing(n)))


@given(b=st.integers(1, 5), n=st.integers(1, 600), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_two_free_sizes_answer_as_onnx_runtime_does(
    models: dict[str, Model], expected: dict[str, OnnxModel], b: int, n: int, seed: int
) -> None:
    same(models["meeting"].run(meeting(b, n, seed)), expected["meeting"].run(meeting(b, n, seed)))


def test_a_graph_without_a_batch_runs_too(models: dict[str, Model]) -> None:
    assert models["summing"].run({"all": np.arange(5, dtype=np.float32)})["total"].tolist() == [10.0]


def test_inputs_need_not_lie_in_one_piece(models: dict[str, Model], expected: dict[str, OnnxModel]) -> None:
    inputs = {name: np.asfortranarray(values)[::2] for name, values in mixing(20).items()}
    same(models["mixing"].run(inputs), expected["mixing"].run(inputs))


def test_an_answer_stays_what_it_is_when_the_next_is_asked(
    models: dict[str, Model], expected: dict[str, OnnxModel]
) -> None:
    first = models["mixing"].run(mixing(8, seed=1))
    models["mixing"].run(mixing(8, seed=2))
    same(first, expected["mixing"].run(mixing(8, seed=1)))


WRONG: dict[str, Inputs] = {
    "a name unknown": {"idz": mixing(1)["ids"], "numbers": mixing(1)["numbers"]},
    "an input missing": {"ids": mixing(1)["ids"]},
    "one too many": mixing(1) | {"more": np.zeros((1, 1), np.float32)},
    "another type": {"ids": mixing(1)["ids"], "numbers": np.zeros((1, 2), np.float64)},
    "a type that no model takes": {"ids": np.asarray([["a", "b", "c"]], object), "numbers": mixing(1)["numbers"]},
    "another width": {"ids": np.zeros((1, 4), np.int64), "numbers": mixing(1)["numbers"]},
    "an id outside the table": {"ids": np.asarray([[1, 2, 10]]), "numbers": mixing(1)["numbers"]},
    "sides of different lengths": {"ids": mixing(2)["ids"], "numbers": mixing(3)["numbers"]},
}


@pytest.mark.parametrize("what", WRONG)
def test_inputs_that_the_model_does_not_take_are_no_outage(models: dict[str, Model], what: str) -> None:
    for _ in range(5):  # more often than a breaker forgives
        with pytest.raises(ModelFailed):
            models["mixing"].run(WRONG[what])
    models["mixing"].run(mixing(1))


def test_many_threads_get_each_their_own_answer(models: dict[str, Model], expected: dict[str, OnnxModel]) -> None:
    def ask(seed: int) -> None:
        inputs = mixing(1 + seed % 7, seed)
        same(models["mixing"].run(inputs), expected["mixing"].run(inputs))

    with ThreadPoolExecutor(2 * MOST) as pool:
        list(pool.map(ask, range(400)))


def test_one_bad_request_does_not_spoil_those_it_is_batched_with(
    models: dict[str, Model], expected: dict[str, OnnxModel]
) -> None:
    def ask(n: int) -> bool:
        bad = n % 10 == 0
        try:
            same(
                models["mixing"].run(WRONG["an id outside the table"] if bad else mixing(1, n)),
                expected["mixing"].run(mixing(1, n)),
            )
        except ModelFailed:
            return bad
        return not bad

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))


@pytest.mark.parametrize("kind", HOSTS)
def test_a_file_that_is_no_model_is_refused(kind: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "mixing.onnx").write_bytes(b"no model at all")
    broken = seal(tmp_path, "ranking", facts={}, metrics={}, data={})
    with closing(made(kind, server)) as host, pytest.raises(BundleRefused, match=r"mixing\.onnx"):
        host.load(broken, ["mixing"])


# ---------------------------------------------------------------------------------------------- far away


def test_the_deadline_of_the_running_stage_ends_the_call(server: Server, far: dict[str, Model]) -> None:
    server.running.freeze()
    try:
        waited = []
        for _ in range(2):  # the machine may stall in one of them
            deadline_in(0.3)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                far["mixing"].run(mixing(1))
            waited.append(time.monotonic() - began)
        assert min(waited) > 0.25
        assert min(waited) < 1.5
        deadline_in(0.0)
        with pytest.raises(DeadlineExceeded, match="no time left"):
            far["mixing"].run(mixing(1))
    finally:
        deadline_in(None)
        server.running.thaw()
    far["mixing"].run(mixing(1))


@pytest.mark.parametrize("kind", FAR)
def test_calls_that_were_given_up_do_not_pile_up_on_the_server(kind: str, server: Server, bundle: Bundle) -> None:
    """The server is never told to cancel, so what nobody waits for any more is limited, and one more is refused."""
    toil = {"x": np.zeros((8_000, WIDTH), np.float32)}  # takes far longer than anybody will wait
    few = TritonServer(server.address, most_calls=2)
    with closing(TritonHost(few, ModelRepository(server.repository), shared=kind == FAR[1], timeout_s=60.0)) as host:
        toiling = host.load(bundle, ["toiling"])["toiling"]

        def toil_s() -> float:
            began = time.monotonic()
            toiling.run(toil)
            return time.monotonic() - began

        one_s = min(toil_s() for _ in range(3))  # a stall of the machine would count as the model's
        outcomes: list[str] = []
        together = threading.Barrier(12)

        def rows() -> int:
            [statistics] = few._client.get_inference_statistics(toiling.name).model_stats
            return int(statistics.inference_count)

        before = rows()

        def give_up() -> None:
            together.wait(60)
            deadline_in(max(one_s / 4, 0.02))
            try:
                toiling.run(toil)
            except (DeadlineExceeded, ResourceExhausted, Unavailable) as lost:  # Unavailable: the breaker's
                outcomes.append(type(lost).__name__)

        threads = [threading.Thread(target=give_up) for _ in range(12)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        took_s = time.monotonic() - began
        assert len(outcomes) == 12
        assert "Busy" in outcomes
        done, until = -1, time.monotonic() + 60
        while (now := rows()) != done and time.monotonic() < until:  # what was given up may still be worked on
            done = now
            time.sleep(2 * one_s)
        rounds = 1 + took_s / one_s  # in which two calls each may have been taken, and a first call is a slow one
        assert done - before <= (2 * rounds + 2) * len(toil["x"])
        time.sleep(1.1)  # the breaker's

        def light_s() -> float:
            began = time.monotonic()
            toiling.run({"x": toil["x"][:1]})
            return time.monotonic() - began

        assert min(light_s() for _ in range(3)) < one_s, "the server still works for those who gave up"


def test_a_server_survives_callers_that_give_up_all_the_time(server: Server, far: dict[str, TritonModel]) -> None:
    """Triton 2.51 dies of requests that are cancelled just as they end."""
    process = server.running.process.pid

    client, name = TritonServer(server.address, most_calls=64), far["mixing"].name
    inputs = by_value(mixing(3))
    began = time.monotonic()
    for _ in range(20):
        client.infer(name, inputs, 5.0)
    usual_s = (time.monotonic() - began) / 20

    def hurry(seed: int) -> None:
        """Give up about when the answer comes; without a breaker, which would spare the server."""
        for wait_s in np.random.default_rng(seed).uniform(0.5, 4.0, 400) * usual_s:
            with suppress(DeadlineExceeded, ResourceExhausted, Unavailable):
                client.infer(name, inputs, float(wait_s))

    with closing(client), ThreadPoolExecutor(8) as pool:
        list(pool.map(hurry, range(8)))
    assert server.running.process.pid == process
    assert alive(server.running.process)
    assert far["mixing"].run(mixing(3))["vector"].shape == (3, 4)


@pytest.mark.parametrize("kind", FAR)
def test_a_full_queue_refuses_at_once(kind: str, server: Server, tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "queue", "toiling", seed=FAR.index(kind) + 1)
    tuning = Running(max_queue=1, max_queue_s=30.0)
    outcomes: list[str] = []
    with closing(server.host(tuning=tuning, shared=kind == FAR[1], timeout_s=60.0)) as host:
        toiling = host.load(bundle, ["toiling"])["toiling"]

        def ask() -> None:
            try:
                toiling.run({"x": np.zeros((1_500, WIDTH), np.float32)})
                outcomes.append("answered")
            except ResourceExhausted as full:
                outcomes.append("full" if "queue" in full.detail else full.detail)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert set(outcomes) == {"answered", "full"}
    assert len(outcomes) == 8


def until_answered(mixer: Model, between: Callable[[], None] = lambda: None) -> None:
    """A channel to a server that was away is tried again a second later at most, and the breaker asks as seldom."""
    until = time.monotonic() + 30
    while True:
        between()
        try:
            mixer.run(mixing(1))
            return
        except Unavailable:
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.parametrize("kind", FAR)
def test_a_model_that_the_server_lost_is_an_outage_until_it_is_loaded_again(
    kind: str, server: Server, bundle: Bundle
) -> None:
    with closing(made(kind, server, every_s=3600.0)) as host:
        mixer = host.load(bundle, ["mixing"])["mixing"]
        mixer.run(mixing(1))  # shared memory is known to the server from here on
        server.restart()
        with pytest.raises(Unavailable):
            mixer.run(mixing(1))
        until_answered(mixer, between=host.keep)
        assert mixer.run(mixing(3))["vector"].shape == (3, 4)


@pytest.mark.parametrize("kind", FAR)
def test_a_server_that_is_away_is_an_outage_and_soon_not_asked_at_all(
    kind: str, server: Server, bundle: Bundle
) -> None:
    with closing(made(kind, server)) as host:
        mixer = host.load(bundle, ["mixing"])["mixing"]
        server.running.kill()
        try:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    mixer.run(mixing(1))

            def refused_s() -> float:
                began = time.monotonic()
                with pytest.raises(Unavailable, match="asked again"):
                    mixer.run(mixing(1))
                return time.monotonic() - began

            assert any(refused_s() < 0.05 for _ in range(3))
        finally:
            server.restart()
        until_answered(mixer)


def regions() -> set[str]:
    return {file.name for file in Path("/dev/shm").glob("psm_*")}


def test_shared_memory_is_used_again_and_given_back(server: Server, bundle: Bundle) -> None:
    before = regions()
    with closing(made(FAR[1], server)) as host:
        mixer = host.load(bundle, ["mixing"])["mixing"]
        assert isinstance(mixer, SharedTritonModel)
        for n in range(50):
            mixer.run(mixing(1 + n))
        assert len(regions() - before) == 1
        with ThreadPoolExecutor(2 * MOST) as pool:
            list(pool.map(lambda n: mixer.run(mixing(2_000, n)), range(200)))
        assert 1 <= len(regions() - before) <= MOST
    assert regions() - before == set()


def test_inputs_larger_than_a_region_travel_by_value(
    server: Server, bundle: Bundle, expected: dict[str, OnnxModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.serving.shared_memory.SMALLEST", 64)
    before = regions()
    with closing(made(FAR[1], server)) as host:
        mixer = host.load(bundle, ["mixing"])["mixing"]
        mixer._regions._largest = 1_000  # type: ignore[attr-defined]
        same(mixer.run(mixing(200)), expected["mixing"].run(mixing(200)))
        assert regions() == before
        same(mixer.run(mixing(10)), expected["mixing"].run(mixing(10)))
        assert len(regions() - before) == 1
