from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vnbench.trial.tracing import autocast_rules
from vnbench.trial.tracing.autocast_rules import (
    CPU_TABLE,
    CUDA_TABLE,
    RULES,
    SHARED,
    Rule,
    cuda_autocast,
    names_with_rules,
    overload,
)

HEADER = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"

MACROS: dict[str, Rule] = {
    "AT_FORALL_LOWER_PRECISION_FP": "lower",
    "AT_FORALL_FP32": "fp32",
    "AT_FORALL_FP32_SET_OPT_DTYPE": "fp32 by argument",
    "AT_FORALL_PROMOTE": "promote",
}
"""Lists of torch's header by what they do."""


def test_the_operators_with_a_rule_are_those_of_the_torch_at_hand() -> None:
    registered = names_with_rules(CUDA_TABLE)
    # rms_norm has had a rule since torch 2.12, and builds for CUDA have _cudnn_rnn.
    assert set(RULES) - registered <= {"rms_norm"}
    assert {name for name in registered - set(RULES) if not _is_of_named_tensors(name)} <= {"_cudnn_rnn"}
    for name in set(RULES) & registered:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(overload(name)._schema.name + _suffix(name), CUDA_TABLE)
    for name in ("cat", "stack", "batch_norm", "native_group_norm", "gelu", "upsample_nearest2d.vec"):
        assert name not in RULES
        operator = "aten::" + name
        assert not torch._C._dispatch_has_kernel_for_dispatch_key(operator, CUDA_TABLE)


def _is_of_named_tensors(name: str) -> bool:
    """Return whether an operator is of tensors with names, which left torch with 2.13."""
    return re.search(r"dimname|names_", name, re.IGNORECASE) is not None


def _suffix(name: str) -> str:
    return name[name.index(".") :] if "." in name else ""


@pytest.mark.skipif(not HEADER.exists(), reason="this torch comes without its headers")
def test_what_the_rules_do_is_what_the_header_of_torch_says() -> None:
    text = HEADER.read_text(encoding="utf-8")
    told: dict[str, Rule] = {}
    for macro, rule in MACROS.items():
        body = re.search(rf"#define {macro}\(_\)(.*?[^\\])\n", text, re.DOTALL)
        assert body is not None
        for operator, suffix in re.findall(r"_\((\w+)(?:, (\w+))?\)", body.group(1)):
            name = f"{operator}.{suffix}" if suffix else operator
            told |= {} if _is_of_named_tensors(name) else {name: rule}
    assert len(told) > 100
    registered = names_with_rules(CUDA_TABLE)
    ours = {name: rule for name, rule in RULES.items() if rule in MACROS.values() and name in registered}
    # These two have a rule beside the lists.
    assert {name: rule for name, rule in ours.items() if name not in told} == {
        "cudnn_convolution": "lower",
        "cudnn_convolution_transpose": "lower",
    }
    assert {name: rule for name, rule in ours.items() if name in told} == told


def test_what_both_devices_lower_is_left_to_the_cpus_rule() -> None:
    assert names_with_rules(CPU_TABLE) >= SHARED
    assert {RULES[name] for name in SHARED} == {"lower"}


def dtypes() -> dict[str, torch.dtype]:
    """Return the dtypes of results of operators under autocast in bf16, of a map in bf16."""
    x_BCHW = torch.randn(2, 8, 8, 8).bfloat16()
    wide_BCHW = x_BCHW.float()
    weight = torch.randn(8, 8, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results = {
            "conv2d": F.conv2d(wide_BCHW, weight),
            "conv2d, same": F.conv2d(wide_BCHW, weight, padding="same"),
            "einsum": torch.einsum("bchw,bcij->bh", wide_BCHW, x_BCHW),
            "nearest": F.interpolate(x_BCHW, scale_factor=2.0),
            "bilinear": F.interpolate(x_BCHW, scale_factor=2.0, mode="bilinear"),
            "group norm": F.group_norm(x_BCHW, 2),
            "sum": x_BCHW.sum(),
            "sum to bf16": x_BCHW.sum(dtype=torch.bfloat16),
            "softmax": x_BCHW.softmax(1),
            "norm": x_BCHW.norm(),
            "norm of a dimension": x_BCHW.norm(2, 1),
            "pow": x_BCHW**2,
            "cat": torch.cat((x_BCHW, x_BCHW)),
            "gelu": F.gelu(x_BCHW),
            "addcmul": torch.addcmul(x_BCHW, x_BCHW, wide_BCHW),
            "addcmul of one dtype": torch.addcmul(x_BCHW, x_BCHW, x_BCHW),
            "sum of int": torch.ones(2, dtype=torch.int32).sum(),
            "double": torch.ones(2, dtype=torch.float64).exp(),
        }
    return {name: result.dtype for name, result in results.items()}


BF16 = {"conv2d", "conv2d, same", "einsum", "sum to bf16", "cat", "gelu", "addcmul of one dtype"}
OTHERS = {"sum of int": torch.int64, "double": torch.float64}
EXPECTED = {name: OTHERS.get(name, torch.bfloat16 if name in BF16 else torch.float32) for name in dtypes()}


def test_autocast_does_to_each_sort_of_operator_what_it_does_on_cuda() -> None:
    with cuda_autocast():
        assert dtypes() == EXPECTED


def test_the_cpus_rules_are_back_afterwards() -> None:
    before = dtypes()
    assert before != EXPECTED
    with cuda_autocast():
        pass
    assert dtypes() == before


@pytest.mark.parametrize(
    ("operator", "wrong", "result"),
    [("upsample_nearest2d", "lower", "nearest"), ("sum", "lower", "sum"), ("addcmul", "lower", "addcmul")],
)
def test_a_wrong_entry_of_the_table_is_noticed(
    operator: str, wrong: Rule, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autocast_rules, "RULES", {**RULES, operator: wrong})
    with cuda_autocast():
        assert dtypes()[result] != EXPECTED[result]


def test_casts_of_weights_are_made_once() -> None:
    weight = torch.randn(8, 8, 3, 3, requires_grad=True)
    with cuda_autocast(), torch.autocast("cpu", dtype=torch.bfloat16):
        results = [F.conv2d(torch.randn(1, 8, 8, 8), weight) for _ in range(2)]
    casts = [result.grad_fn.next_functions[1][0] for result in results if result.grad_fn is not None]
    assert casts[0] is casts[1]


def test_what_cuda_refuses_under_autocast_is_refused() -> None:
    with (
        cuda_autocast(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(RuntimeError, match="binary_cross_entropy_with_logits"),
    ):
        F.binary_cross_entropy(torch.rand(2), torch.rand(2))


def test_an_operator_of_which_nothing_is_known_is_refused_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast_rules, "RULES", {name: rule for name, rule in RULES.items() if name != "exp"})
    with cuda_autocast():
        torch.ones(2).exp()  # without autocast there is no rule to know
        with (
            torch.autocast("cpu", dtype=torch.bfloat16),
            pytest.raises(NotImplementedError, match="autocast does to aten"),
        ):
            torch.ones(2).exp()
