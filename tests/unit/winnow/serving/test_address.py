"""Which addresses settings take."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.gateway.settings import Settings
from winnow.serving.settings import words_of


@pytest.mark.parametrize("host", ["no..such", "a" * 64, "." + "b" * 10])
def test_a_name_that_no_host_has_is_said_before_anything_is_opened(host: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(gateway_address=f"{host}:80")
    assert words_of(refused.value) == "WINNOW_GATEWAY_ADDRESS: no host can have this name"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:80", "gateway.winnow.svc.:80", "bücher.example:80"])
def test_names_and_numbers_of_hosts_are_taken(address: str) -> None:
    assert Settings(gateway_address=address).gateway_address == address
