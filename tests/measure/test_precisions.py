from __future__ import annotations

from typing import Any

import pytest

from vnbench.measure.precisions import emulated_precisions, native_precisions_of_capability
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
    assert native_precisions_of_capability(*capability) == native


@pytest.mark.parametrize(
    ("environment", "emulated"),
    [
        ({"native_precisions": ["fp32"]}, ("bf16", "fp16")),
        ({"native_precisions": ["fp32", "bf16"]}, ("fp16",)),
        ({"native_precisions": ["fp32", "fp16"]}, ("bf16",)),
        ({"native_precisions": ["fp32", "bf16", "fp16"]}, ()),
        ({}, ()),
    ],
)
def test_what_a_device_emulates_is_what_it_has_no_units_for_and_unknown_where_nobody_looked(
    environment: dict[str, Any], emulated: tuple[Precision, ...]
) -> None:
    assert emulated_precisions(environment) == emulated
