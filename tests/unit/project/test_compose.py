"""compose.yaml: valid, contained, and every setting in it one that its service reads."""

import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from tests.published import ROOT, check, read, said

FILE = read("compose.yaml")
PARTS: dict[str, dict[str, Any]] = FILE["services"]
SERVICES = ("gateway", "feature", "retrieval", "ranking", "explanation")
ELSEWHERE = {"WINNOW_METRICS_ADDRESS"}  # read beside the settings, by winnow.serving.process
ROOT_WRITABLE = {"kafka"}


def environment(name: str) -> dict[str, str]:
    """As compose would give it to a person who set nothing."""
    told = PARTS[name].get("environment", {})
    return {key: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(value)) for key, value in told.items()}


def settings(name: str, monkeypatch: pytest.MonkeyPatch) -> BaseSettings:
    for key, value in environment(name).items():
        monkeypatch.setenv(key, value)
    found: BaseSettings = import_module(f"services.{name}.settings").Settings()
    return found


def listens(name: str) -> str:
    """The port of a service's own gRPC address."""
    return environment(name)[f"WINNOW_{name.upper()}_ADDRESS"].rpartition(":")[2]


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_has_the_published_form(file: str) -> None:
    assert check(file, "compose-spec") == []


def test_everything_that_a_platform_needs_is_there() -> None:
    assert {*SERVICES, "redis", "kafka", "triton", "mlflow", "prometheus", "grafana", "home"} <= PARTS.keys()
    assert read("compose.gpu.yaml")["services"].keys() <= PARTS.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_reads_each_of_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(name, monkeypatch)
    known = {f"WINNOW_{field.upper()}" for field in type(found).model_fields} | ELSEWHERE
    gpu = read("compose.gpu.yaml")["services"].get(name, {}).get("environment", {})
    assert {*environment(name), *gpu} - known == set()
    assert str(found.home) == "/var/lib/winnow/home"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_to_all_and_finds_its_peers_where_they_listen(name: str) -> None:
    for key, address in environment(name).items():
        other = key.removeprefix("WINNOW_").removesuffix("_ADDRESS").lower()
        if other == name:
            assert address.startswith("0.0.0.0:")
        elif other in SERVICES:
            assert address == f"{other}:{listens(other)}"


@pytest.mark.parametrize(("name", "needs"), [("gateway", {"feature", "retrieval", "ranking", "explanation"})])
def test_a_service_is_told_of_every_peer(name: str, needs: set[str]) -> None:
    assert {f"WINNOW_{other.upper()}_ADDRESS" for other in needs} <= environment(name).keys()


@pytest.mark.parametrize("name", ["retrieval", "ranking", "explanation"])
def test_who_follows_the_catalogue_is_told_where_it_is(name: str) -> None:
    assert environment(name)["WINNOW_FEATURE_ADDRESS"] == f"feature:{listens('feature')}"


def test_parts_are_found_by_name_and_port() -> None:
    ports = {"kafka": "9092", "redis": "6379", "mlflow": "5000", "triton": "8001"}
    told = [value for name in SERVICES for value in environment(name).values()]
    for part, port in ports.items():
        mentions = [value for value in told if re.search(rf"\b{part}:", value)]
        assert mentions
        assert all(re.search(rf"\b{part}:{port}\b", value) for value in mentions)
    assert "PLAINTEXT://:9092" in environment("kafka")["KAFKA_LISTENERS"]
    assert "--port=5000" in PARTS["mlflow"]["command"]
    hosts = next(word for word in PARTS["mlflow"]["command"] if word.startswith("--allowed-hosts="))
    assert "mlflow:5000" in hosts  # a Host header that it does not know gets 403


def test_prometheus_reads_where_metrics_are_shown() -> None:
    jobs = read("deploy/compose/prometheus.yaml")["scrape_configs"]
    targets = {target for job in jobs for one in job["static_configs"] for target in one["targets"]}
    for name in SERVICES:
        at = environment(name).get("WINNOW_METRICS_ADDRESS") or environment(name)["WINNOW_REST_ADDRESS"]
        assert f"{name}:{at.rpartition(':')[2]}" in targets
    assert {target.partition(":")[0] for target in targets} <= PARTS.keys()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: make packages")
def test_prometheus_finds_the_alerts_and_takes_them(tmp_path: Path) -> None:
    """As the container sees it: its mounts, under another root."""
    for mount in PARTS["prometheus"]["volumes"]:
        source, _, place = mount.removesuffix(":ro").partition(":")
        if source.startswith("./"):
            target = tmp_path / place.strip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, target)
    config = tmp_path / "etc/prometheus/prometheus.yaml"
    config.write_text(config.read_text("utf-8").replace("[/etc/", f"[{tmp_path}/etc/"), "utf-8")
    status, words = said("promtool", "check", "config", str(config))
    assert status == 0, words
    files = len(list((ROOT / "deploy/helm/winnow/alerts").glob("*.yaml")))
    assert f"{files} rule files found" in words


@pytest.mark.parametrize("name", PARTS)
def test_a_part_may_do_little(name: str) -> None:
    part = PARTS[name]
    assert part["cap_drop"] == ["ALL"]
    assert part["security_opt"] == ["no-new-privileges:true"]
    assert part["read_only"] is (name not in ROOT_WRITABLE)
    assert part["mem_limit"]
    assert not part.get("privileged")
    assert all(port.startswith("127.0.0.1:") for port in part.get("ports", []))


@pytest.mark.parametrize("name", PARTS)
def test_an_image_is_ours_or_has_a_whole_version(name: str) -> None:
    image = PARTS[name]["image"]
    ours = image.startswith("winnow-") and image.endswith(":${WINNOW_VERSION:-local}")
    assert ours == ("build" in PARTS[name])
    assert ours or re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", image)


@pytest.mark.parametrize("name", PARTS)
def test_what_is_waited_for_can_come(name: str) -> None:
    for other, how in PARTS[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in PARTS[other] or other in SERVICES
        else:
            assert PARTS[other]["restart"] == "no"


@pytest.mark.parametrize("name", PARTS)
def test_what_is_mounted_exists(name: str) -> None:
    for mount in PARTS[name].get("volumes", []):
        source, _, target = mount.partition(":")
        assert (ROOT / source).exists() if source.startswith("./") else source in FILE["volumes"]
        assert Path(target.removesuffix(":ro")).is_absolute()
