"""A counter that an alert waits for is there before it counts: a rate sees a rise, not a birth."""

import pytest
from prometheus_client import REGISTRY

from services.gateway.settings import Settings
from services.gateway.zeros import begin_at_zero
from winnow.serving.telemetry import UNAUDITED


@pytest.mark.parametrize("reason", ["queue_full", "disk_full", "disk_failed"])
@pytest.mark.parametrize(("audit", "shown"), [(True, 0.0), (False, None)])
def test_the_first_answer_that_no_record_names_is_a_rise(audit: bool, shown: float | None, reason: str) -> None:
    UNAUDITED.clear()
    begin_at_zero(Settings(audit=audit))
    assert REGISTRY.get_sample_value("winnow_audit_unaudited_total", {"reason": reason}) == shown
