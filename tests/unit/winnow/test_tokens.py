"""A token is the position it was made of, and no other text is a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.errors import InvalidArgument
from winnow.tokens import LENGTH, token_of, watermark_of

positions = st.integers(0, 2**64 - 1)
letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(positions)
def test_a_token_gives_its_position_back(position: int) -> None:
    token = token_of(position)
    assert watermark_of(token) == position
    assert len(token) == LENGTH
    assert set(token) <= set(letters), "it can stand in a link"


@given(positions, st.integers(0, LENGTH - 1), st.sampled_from(letters))
def test_a_token_with_one_letter_changed_is_refused(position: int, place: int, letter: str) -> None:
    token = token_of(position)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(InvalidArgument) as refused:
            watermark_of(changed)
        assert refused.value.field == "token"


@given(st.text(max_size=40))
def test_any_other_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        watermark_of(text)
    assert refused.value.field == "token"
