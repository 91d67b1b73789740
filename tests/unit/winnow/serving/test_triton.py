"""What Triton's errors mean, in its own words, and that nobody pays for a client that is not used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from winnow.errors import DeadlineExceeded, PayloadTooLarge, ResourceExhausted, Unavailable
from winnow.inference import ModelFailed
from winnow.serving.triton import ModelBroken, RegionUnknown, meaning

MEANINGS: list[tuple[str, str, type[Exception]]] = [
    ("NOT_FOUND", "Request for unknown model: 'm' is not found", Unavailable),
    ("NOT_FOUND", "Request for unknown model: 'm' has no available versions", Unavailable),
    ("NOT_FOUND", "Unable to find shared memory region: 'r'", RegionUnknown),
    ("UNAVAILABLE", "failed to connect to all addresses", Unavailable),
    ("UNAVAILABLE", "Exceeds maximum queue size", ResourceExhausted),
    ("UNAVAILABLE", "Request timeout expired", ResourceExhausted),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
    ("RESOURCE_EXHAUSTED", "Sent message larger than max (9 vs. 8)", PayloadTooLarge),
    ("RESOURCE_EXHAUSTED", "memory", ResourceExhausted),
    ("INTERNAL", "Stub process 'm_0_0' is not healthy.", ModelBroken),
    ("INVALID_ARGUMENT", "unexpected inference input 'x' for model 'm'", ModelFailed),
    ("CANCELLED", "Locally cancelled", Unavailable),
]


@pytest.mark.parametrize(("status", "said", "means"), MEANINGS)
def test_an_error_means(status: str, said: str, means: type[Exception]) -> None:
    found = meaning("Triton", status, said)
    assert type(found) is means
    assert said in str(found)


def test_a_process_without_triton_does_not_load_its_client() -> None:
    found = "import sys, services.all, services.ranking.__main__; print([m for m in sys.modules if 'triton' in m])"
    loaded = subprocess.run([sys.executable, "-c", found], check=True, capture_output=True, text=True, timeout=60)
    assert "tritonclient" not in loaded.stdout
    assert "winnow.serving.triton" in loaded.stdout
