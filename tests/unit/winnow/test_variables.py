"""A variable that nobody reads is told of by its name; what any part of Winnow reads is not."""

import re
import subprocess
from pathlib import Path

import pytest

from services.all import Settings
from winnow.variables import unread
from winnow.variables.known import KNOWN

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = [
    "parts",
    "bench",
    "training",
    "drills",
    "jobs",
    "feature_repo",
    "compose.yaml",
    "compose.gpu.yaml",
    "Dockerfile",
]
"""What sets variables, or reads them."""


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("WINNOW_EXPLROE", "did you mean WINNOW_EXPLORE?"),
        ("WINNOW_RETRIEVAL_BUDGET", "did you mean WINNOW_RETRIEVAL_BUDGET_MS?"),
        ("winnow_kafka_bootstraps", "did you mean WINNOW_KAFKA_BOOTSTRAP?"),
        ("WINNOW_XYZZY", "docs/operating.md lists what is read"),
    ],
)
def test_a_misspelt_name_is_told_of_with_the_nearest_one_and_without_its_value(name: str, remedy: str) -> None:
    assert list(unread({name: "secret", "WINNOW_HOME": "here"})) == [f"{name} is set, and nothing reads it; {remedy}"]


def test_what_is_set_by_anything_that_is_shipped_is_known() -> None:
    found = subprocess.run(
        ["git", "grep", "-hoE", r"WINNOW_[A-Z0-9_]+\b", "--", *SHIPPED],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = {name for name in found.stdout.split() if not name.endswith("_")}
    assert len(names) > 20
    assert list(unread(dict.fromkeys(names, "x"))) == []


def test_every_setting_is_known_and_so_are_those_of_a_service_of_somebody_else() -> None:
    assert list(unread({f"WINNOW_{name.upper()}": "x" for name in Settings.model_fields})) == []
    theirs = {"WINNOW_PRICING_MODE": "fast"}
    assert len(list(unread(theirs))) == 1
    assert list(unread(theirs, ["pricing_mode"])) == []


def test_what_kubernetes_says_of_services_is_no_mistake() -> None:
    links = {
        "WINNOW_GATEWAY_SERVICE_HOST": "10.0.0.7",
        "WINNOW_GATEWAY_SERVICE_PORT_REST": "8080",
        "WINNOW_GATEWAY_PORT": "tcp://10.0.0.7:8080",
        "WINNOW_GATEWAY_PORT_8080_TCP_ADDR": "10.0.0.7",
    }
    assert list(unread(links)) == []
    assert len(list(unread({"WINNOW_GATEWAY_PORT": "8080"}))) == 1


def test_names_are_those_of_the_environment() -> None:
    assert all(re.fullmatch(r"WINNOW_[A-Z0-9_]*[A-Z0-9]", name) for name in KNOWN)
