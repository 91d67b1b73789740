from __future__ import annotations

import pytest

from winnow.errors import InvalidArgument
from winnow.filters import Op, Term


@pytest.mark.parametrize(
    ("field", "op", "said"),
    [
        ("categories", Op.LT, "categories takes in, not lt"),
        ("brand", Op.IS, "brand takes in, not is"),
        ("attributes.colour", Op.GE, "attributes.colour takes in, not ge"),
        ("price", Op.IN, "price takes lt, le, gt, ge, not in"),
        ("available", Op.IN, "available takes is, not in"),
    ],
)
def test_an_operator_of_another_kind_of_field_is_said_before_its_operand_is(field: str, op: Op, said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Term(field, op, number=5.0)
    assert refused.value.detail == said
    assert refused.value.field == f"filter.{field}.op"
