"""The arithmetic of capacity, and what it says when a figure is missing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.capacity import main as capacity
from bench.capacity.figures import CHECKED_IN, SERVICES, Measurements, costs
from bench.capacity.model import Cost, Need, Wanted, need, on_gpus, replicas
from winnow.errors import NotFound

wants = st.builds(
    Wanted,
    qps=st.floats(0.1, 1e6),
    items=st.integers(1, 10**8),
    users=st.integers(0, 10**9),
    events_per_user=st.floats(0, 500),
    utilisation=st.floats(0.05, 1.0),
    headroom=st.floats(0, 2),
    zones=st.integers(1, 6),
    cores=st.floats(0.1, 64),
)
spent = st.builds(
    Cost,
    cpu_ms=st.floats(0.001, 1e3),
    empty_mb=st.floats(1, 1e4),
    items_mb=st.floats(0, 1e5),
    users_mb=st.floats(0, 1e5),
    events_mb=st.floats(0, 1e3),
)


@given(wants, spent, st.floats(1, 100))
def test_more_requests_never_need_less(wanted: Wanted, cost: Cost, times: float) -> None:
    more = replace(wanted, qps=wanted.qps * times)
    assert need(more, cost).pods >= need(wanted, cost).pods
    assert need(more, cost).memory_mb == need(wanted, cost).memory_mb


@given(wants, spent, st.integers(1, 100))
def test_more_items_and_users_never_need_less_memory(wanted: Wanted, cost: Cost, times: int) -> None:
    more = replace(wanted, items=wanted.items * times, users=wanted.users * times)
    assert need(more, cost).memory_mb >= need(wanted, cost).memory_mb
    assert need(more, cost).pods == need(wanted, cost).pods


@given(wants, spent)
def test_there_are_two_of_everything_and_as_many_in_every_zone(wanted: Wanted, cost: Cost) -> None:
    found = need(wanted, cost)
    assert found.pods >= 2
    assert found.pods % wanted.zones == 0 or found.pods == 2
    assert found.cores == found.pods * wanted.cores


@given(wants, spent)
def test_when_a_zone_is_lost_the_others_carry_the_peak_with_its_headroom(wanted: Wanted, cost: Cost) -> None:
    assume(wanted.zones > 1)
    found = need(wanted, cost)
    left = found.pods - found.pods // wanted.zones
    work_s = wanted.qps * (1 + wanted.headroom) * cost.cpu_ms / 1000
    assert work_s <= left * wanted.cores * wanted.utilisation * (1 + 1e-6)


@given(wants, spent)
def test_no_zone_has_a_pod_too_many(wanted: Wanted, cost: Cost) -> None:
    found, carrying = need(wanted, cost), max(wanted.zones - 1, 1)
    work_s = wanted.qps * (1 + wanted.headroom) * cost.cpu_ms / 1000
    exact = work_s / (wanted.cores * wanted.utilisation)
    assert found.pods <= max((exact / carrying + 1) * wanted.zones, 2 * wanted.zones) * (1 + 1e-6)


def test_the_arithmetic_of_the_documented_example() -> None:
    found = need(
        Wanted(qps=1_000, utilisation=0.5, headroom=0.2, zones=3), Cost(cpu_ms=5.0, empty_mb=100, items_mb=1_000)
    )
    assert found.pods == 18  # 1,000 × 1.2 × 5 ms / 0.5 = 12 pods in two zones, so 6 in each of three
    assert found.busy == pytest.approx(1_000 * 0.005 / 18)
    assert found.memory_mb == pytest.approx(1.2 * (100 + 0.1 * 1_000))
    assert "= 12.0 pods" in found.sums


@pytest.mark.parametrize(
    ("exact", "zones", "pods"), [(0.01, 1, 2), (0.01, 2, 2), (0.01, 3, 3), (2, 3, 3), (2.1, 3, 6), (7, 1, 7)]
)
def test_replicas_are_whole(exact: float, zones: int, pods: int) -> None:
    assert replicas(exact, zones) == pods


@pytest.mark.parametrize("wrong", [{"qps": 0}, {"qps": float("nan")}, {"utilisation": 1.5}, {"zones": 0}, {"cores": 0}])
def test_a_number_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Wanted(**{"qps": 1.0, **wrong})  # type: ignore[arg-type]


def test_cards_are_counted_like_pods() -> None:
    wanted = Wanted(qps=10_000, utilisation=0.5, headroom=0.0, zones=2)
    found = on_gpus(wanted, Need(4, 4.0, 100.0, 0.3, "sums"), per_gpu_s=5_000)
    assert (found.gpus, found.pods, found.sums) == (8, 4, "sums")
    assert found.gpu_sums == "10,000/s × 1 / (5,000/s a card × 0.5) = 4.0 cards; with one of 2 zones lost, × 2/1 → 8"


# ---------------------------------------------------------------------------------------------- figures


def written(folder: Path, name: str, figures: dict[str, float]) -> Path:
    (folder / name).write_text(json.dumps(figures))
    return folder / name


def test_every_figure_that_is_needed_is_checked_in(tmp_path: Path) -> None:
    found = costs(Measurements.read(tmp_path, CHECKED_IN))
    assert set(found) == set(SERVICES)
    assert all(cost.cpu_ms > 0 and cost.empty_mb > 0 for cost in found.values())


def test_this_machines_own_figures_win(tmp_path: Path) -> None:
    name = "e2e.rest.five_processes.100k.50rps.cpu_ms.ranking"
    written(tmp_path, "bench.json", {name: 123.0})
    written(tmp_path, "bench.machine.json", {"cores": 2})
    measured = Measurements.read(tmp_path, CHECKED_IN)
    assert costs(measured)["ranking"].cpu_ms == 123.0
    assert measured.used[name].source == "build/bench.json"
    assert measured.used["e2e.five_processes.100k.rss_mb.ranking"].source.startswith("docs, ")


@pytest.mark.parametrize(
    ("part", "how"),
    [
        ("scale.memory.feature.users_mb", "`make bench-scale` measures it"),
        ("e2e.five_processes.100k.rss_mb.feature", "`make bench` measures it"),
    ],
)
def test_a_missing_figure_says_how_to_measure_it(tmp_path: Path, part: str, how: str) -> None:
    about = json.loads(CHECKED_IN.read_text())
    del about["figures"][part]
    (tmp_path / "few.json").write_text(json.dumps(about))
    with pytest.raises(NotFound, match=how):
        costs(Measurements.read(tmp_path, tmp_path / "few.json"))


def test_a_file_that_was_cut_off_says_so(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text('{"a": 1')
    with pytest.raises(NotFound, match="cannot be read"):
        Measurements.read(tmp_path, tmp_path / "absent.json")


def test_the_command_prints_a_table_or_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--qps", "20000", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["all"]["pods"] == sum(service["pods"] for service in told["services"].values())
    assert capacity.main(["--qps", "20000"]) == 0
    assert "requests/s" in capsys.readouterr().out


def with_a_card(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """What a run of `make bench-gpu` may have left."""
    written(folder, "bench-gpu.json", {name: 4_000.0})
    found = Measurements.read(folder, CHECKED_IN)
    monkeypatch.setattr(capacity.Measurements, "read", lambda: found)


def test_cards_are_counted_where_one_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_card(monkeypatch, tmp_path, "gpu.rank.500.requests_per_s")
    assert capacity.main(["--qps", "20000"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "20,000/s × 1.3 / (4,000/s a card × 0.5) = 13.0 cards; with one of 3 zones lost, × 3/2 → 21" in printed
    assert "1 figures from build/bench-gpu.json" in printed
    assert capacity.main(["--qps", "20000", "--gpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["gpus"] == 21


def test_a_try_on_the_cpu_is_no_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_card(monkeypatch, tmp_path, "try.rank.500.requests_per_s")
    assert capacity.main(["--qps", "20000"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "not counted: no figure gpu.rank.500.requests_per_s: `make bench-gpu` measures it" in printed
    assert capacity.main(["--qps", "20000", "--gpu"]) == 2
    assert "make bench-gpu" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[[], Measurements] = lambda: Measurements({})  # noqa: E731
    monkeypatch.setattr(capacity.Measurements, "read", read)
    assert capacity.main(["--qps", "10"]) == 2
    assert "measures it" in capsys.readouterr().out
    assert capacity.main(["--qps", "-1"]) == 2
    assert "qps" in capsys.readouterr().out
