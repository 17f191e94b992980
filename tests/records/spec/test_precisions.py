from __future__ import annotations

from typing import get_args

import pytest

from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision

FP32, FP16 = ("fp32",), ("fp32", "fp16")
ALL = ("fp32", "tf32", "bf16", "fp16")


@pytest.mark.parametrize(
    ("capability", "native"),
    [
        pytest.param((5, 2), FP32, id="GTX 980"),
        pytest.param((5, 3), FP16, id="Jetson TX1"),
        pytest.param((6, 0), FP16, id="P100"),
        pytest.param((6, 1), FP32, id="P4"),
        pytest.param((6, 2), FP16, id="Jetson TX2"),
        pytest.param((7, 0), FP16, id="V100"),
        pytest.param((7, 5), FP16, id="T4"),
        pytest.param((8, 0), ALL, id="A100"),
        pytest.param((8, 9), ALL, id="L4"),
        pytest.param((9, 0), ALL, id="H200"),
        pytest.param((12, 0), ALL, id="RTX 5090"),
    ],
)
def test_a_gpus_compute_capability_tells_what_it_has_units_for(
    capability: tuple[int, int], native: tuple[Precision, ...]
) -> None:
    assert tuple(name for name, one in PRECISIONS.items() if one.has_units(capability)) == native


def test_every_word_for_a_precision_has_its_entry() -> None:
    assert tuple(PRECISIONS) == get_args(Precision)
