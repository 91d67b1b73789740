from __future__ import annotations

import pytest

from winnow.errors import InvalidArgument
from winnow.types import check_id, check_text


@pytest.mark.parametrize("broken", ["\ufffd", "u\ufffd", chr(0xD800), "u\n1\x00", " u", "u ", "", "u" * 257])
def test_what_is_no_id_is_refused_by_its_field(broken: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_id(broken, "user_id")
    assert refused.value.field == "user_id"


@pytest.mark.parametrize("good", ["405", "ümläut", "用户", "a b", "😀"])
def test_ids_are_any_text(good: str) -> None:
    check_id(good, "user_id")


def test_a_title_may_hold_what_was_lost_elsewhere() -> None:
    check_text("Caf\ufffd", "title", 100)
