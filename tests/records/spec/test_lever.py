"""What the declarations of levers hold for, all of them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from vnbench.errors import InputError
from vnbench.records.spec.axes import AXES, COMPUTING_LEVERS, LOADING_LEVERS
from vnbench.records.spec.levers import Levers
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec


def test_every_field_of_levers_is_an_axis_with_words_for_people() -> None:
    assert list(AXES) == [field.name for field in fields(Levers)]
    for lever in AXES.values():
        assert lever.header
        assert "{}" in lever.phrased
        assert all(lever.swept_on(device) for device in ("cpu", "cuda"))
        assert lever.parse(lever.swept_on("cuda"), f"--{lever.option}")


def test_a_default_of_a_switch_is_quiet_and_of_the_field() -> None:
    for lever in LEVERS.values():
        if lever.is_switch:
            assert lever.quiet == lever.default == TrialSpec.__dataclass_fields__[lever.name].default


def test_parts_share_no_lever() -> None:
    assert not {*COMPUTING_LEVERS} & {*LOADING_LEVERS}


def test_a_value_that_a_lever_does_not_take_is_refused_by_its_option() -> None:
    with pytest.raises(InputError, match="--norm-kernel fast: must be one of native, split"):
        LEVERS["norm_kernel"].parse("fast", "--norm-kernel")
