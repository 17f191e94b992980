"""The code of trials on fake CUDA tensors: devices, dtypes, autocast and waiting as on a card, numbers made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda.cases import LEVERS, TRACED
from fake_cuda.lines import lines_of
from fake_cuda.runner import ROOT, Answer, Group
from fake_cuda.shim import NoShimError, build_shim

from vnbench.records.record import TrialRecord

MADE_UP = ("unequal-step", "large-tensor")
"""Causes that are decided by numbers, which are made up here."""

TRIALS = ("compute", "a network of one's own", "memory", "memory, CUDA graphs", "memory after a soak", "probe")
TRIALS_ON_FILES = ("training", "training, workers", "loader", "loader, workers", "loader, threads")

TRIAL_SIDE = (
    "batching/trial_epoch",
    "loading/collate",
    "loading/examples",
    "loading/loader",
    "loading/thread_loader",
    "model/attention",
    "model/loss",
    "model/normalization",
    "model/positions",
    "model/recomputation",
    "model/split_norm",
    "model/veernet",
    "trial/checks/equality",
    "trial/checks/large_tensors",
    "trial/checks/references",
    "trial/checks/soundness",
    "trial/entry",
    "trial/instruments/environment",
    "trial/instruments/memory",
    "trial/instruments/stage_memory",
    "trial/instruments/timing",
    "trial/kinds/compute",
    "trial/kinds/loader",
    "trial/kinds/memory",
    "trial/kinds/probe",
    "trial/kinds/profile",
    "trial/measuring/blocks",
    "trial/measuring/corpus_steps",
    "trial/measuring/drawn_batch",
    "trial/measuring/flops",
    "trial/measuring/loaders",
    "trial/measuring/stopping",
    "trial/step/cuda_graphs",
    "trial/step/fake_network",
    "trial/step/layout",
    "trial/step/network",
    "trial/step/optimizer_step",
    "trial/step/switches",
)
"""Modules that a trial on CUDA runs. Left out: compilation (a card's compiler), and what runs on the CPU alone, which
are traces (fake_step, traced_memory, tracked_step, worst_case) and the check of a user's own network (model_check,
exactness)."""

MIN_COVERAGE = 0.9


def answer(group: Group, name: str, case: str) -> Answer:
    found = next(one for one in group(name).answers if one.name == case)
    assert found.raised is None, found.raised
    return found


def record_of(found: Answer) -> TrialRecord:
    assert found.returned is not None
    record = TrialRecord.from_json(found.returned)
    kind = record.cause.kind if record.cause else None
    assert record.status == "ok" or kind in MADE_UP, record.cause
    return record


def told(group: Group, name: str, case: str) -> dict[str, Any]:
    returned = answer(group, name, case).returned
    assert returned is not None
    values: dict[str, Any] = json.loads(returned)
    return values


@pytest.mark.parametrize("name", LEVERS)
def test_a_timed_step_of_each_configuration_keeps_the_rules_of_cuda(name: str, group: Group) -> None:
    step, levers = told(group, "steps", name), LEVERS[name]
    (step_s,) = step["times"]["step_time_s"]
    assert 0 < step["times"]["forward_s"][0] < step_s
    # Fused, the optimizer's count lies on the device: one on the host would be copied in every step.
    assert step["state_devices"]["step"] == ("cpu" if "optimizer" in levers else "cuda")
    assert step["state_devices"]["exp_avg"] == "cuda"


@pytest.mark.parametrize("name", LEVERS)
def test_attention_runs_in_the_kernel_that_cuda_chooses(name: str, group: Group) -> None:
    levers = LEVERS[name]
    is_flash = levers.get("precision") in ("bf16", "fp16") and "padding" not in levers
    operators = answer(group, "steps", name).operators
    for kernel, is_expected in (("flash", is_flash), ("efficient", not is_flash)):
        for direction in ("", "_backward"):
            operator = f"aten._scaled_dot_product_{kernel}_attention{direction}.default"
            assert (operator in operators) == is_expected, operator


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_without_files_runs_to_its_end(name: str, group: Group) -> None:
    record = record_of(answer(group, "trials", name))
    assert record.environment["device_name"] == "a stand-in"
    if record.kind == "compute":
        assert record.equality is not None
        assert [canvas.peak_allocated_bytes is not None for canvas in record.canvases or ()] == [True, True]
    elif record.kind == "memory":
        assert record.memory is not None
        assert record.memory.instrument == "cuda-caching-allocator"
        assert (record.memory.soak_peak_allocated_bytes is not None) == ("soak" in name)
    else:
        assert record.probe is not None
        assert len(record.probe.convolution_s) == 2
        assert len(record.probe.steps) >= 2


@pytest.mark.parametrize("name", TRIALS_ON_FILES)
def test_a_trial_on_files_runs_to_its_end(name: str, group: Group) -> None:
    record = record_of(answer(group, "on files", name))
    if record.kind == "training":
        assert record.block is not None
        assert record.block.num_examples == 2
    else:
        assert [stage.name for stage in record.stages][-3:] == ["pinned", "h2d", "device"]


def test_a_step_is_held_against_the_plain_one(group: Group) -> None:
    reading = told(group, "checks", "equality")
    assert reading["gradient_error"] > 0
    assert reading["num_passes"] == 2


def test_a_pass_of_the_largest_examples_is_held_against_its_parts(group: Group) -> None:
    reading = told(group, "checks", "large tensors")
    assert reading["num_elements"] > 2**31
    assert reading["num_parts"] == 2
    assert reading["gradient_error"] > 0


@pytest.mark.parametrize("check", ["equality", "large tensors"])
def test_a_check_leaves_nothing_in_the_reserved_peak_of_its_trial(check: str, group: Group) -> None:
    kept_bytes = answer(group, "checks", check).kept_bytes
    assert kept_bytes, "the cache was not emptied"
    assert set(kept_bytes) == {0}, "tensors were alive when the cache was emptied"


def test_a_profile_tells_stages_apart(group: Group) -> None:
    profile = told(group, "checks", "profile")
    assert profile["status"] == "ok", profile["cause"]
    assert profile["tracked_peak_bytes"] > 0
    kinds = {kind for _, live in profile["timeline"] for _, kind, _ in live}
    assert kinds == {"parameters", "gradients", "optimizer state", "inputs", "activations", "backward"}


@pytest.mark.parametrize("case", ["memory, no memory", "profile, no memory"])
def test_a_step_that_finds_no_memory_is_told_as_that(case: str, group: Group) -> None:
    ended = told(group, "checks", case)
    assert (ended["status"], ended["cause"]["kind"]) == ("oom", "torch-out-of-memory")


def test_what_is_asked_of_a_device_before_a_sweep_is_answered(group: Group) -> None:
    assert told(group, "checks", "environment")["device_type"] == "cuda"
    seconds = told(group, "checks", "convolutions")
    assert list(seconds) == ["fp32", "tf32", "bf16", "fp16"]


NOTICED = {
    "scalar on cpu": "RuleError: aten.ldexp.Tensor: expected all tensors to be on the same device",
    "mask on cpu": "RuleError: aten.where.self: expected all tensors to be on the same device",
    "wide constant": "WrongDtypeError: stem.norm returns torch.float32, where the spec says torch.bfloat16",
    "read in a block": "RuleError: a number is read from the device inside a timed block",
    "copy to the host in a block": "RuleError: aten._to_copy.default between host and device without non_blocking",
    "constant from the host in a block": "RuleError: aten._to_copy.default between host and device without non_block",
    "waiting in a block": "RuleError: the device is waited for inside a timed block",
    "constant from the host in a graph": "between host and device, in what is captured as a CUDA graph",
    "read in a graph": "RuleError: a number is read from the device in what is captured as a CUDA graph",
}


@pytest.mark.parametrize("fault", NOTICED)
def test_a_planted_fault_is_noticed(fault: str, group: Group) -> None:
    found = next(one for one in group("planted").answers if one.name == fault)
    assert found.raised is not None, f"{fault} went unnoticed"
    assert NOTICED[fault] in found.raised.splitlines()[-1]


def test_nine_in_ten_lines_of_the_trial_side_are_run(group: Group, record_property: Any) -> None:
    seen: dict[str, set[int]] = {}
    for name in TRACED:
        for file, lines in group(name).lines.items():
            seen.setdefault(file, set()).update(lines)
    rows, num_seen, num_lines = [], 0, 0
    for module in TRIAL_SIDE:
        path = ROOT / "vnbench" / f"{module}.py"
        lines = lines_of(path)
        missed = sorted(lines - seen.get(str(path), set()))
        num_seen, num_lines = num_seen + len(lines) - len(missed), num_lines + len(lines)
        rows.append(f"  {module:26} {len(lines) - len(missed):4} of {len(lines):4}   not {missed or 'one'}")
    share = num_seen / num_lines
    head = f"fake CUDA tensors run {100 * share:.1f} % of the lines of {len(TRIAL_SIDE)} modules of the trial side"
    record_property("summary", "\n".join([head, *rows]))
    assert share >= MIN_COVERAGE, "\n".join([head, *rows])


@pytest.mark.usefixtures("shim")
def test_a_shim_that_does_not_compile_is_told_in_one_line(tmp_path: Path) -> None:
    source = tmp_path / "broken.cpp"
    source.write_text("int main() { return nothing; }\n")
    with pytest.raises(NoShimError, match=r"broken\.cpp does not compile against torch .*: .*error.*nothing") as caught:
        build_shim(source)
    assert "\n" not in str(caught.value)


def test_a_torch_with_cuda_in_it_takes_no_shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.setattr("fake_cuda.shim._torch_folder", lambda: tmp_path)
    with pytest.raises(NoShimError, match="torch's build for the CPU"):
        build_shim()


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs torch's build for the CPU")
def test_without_a_compiler_there_is_no_shim_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoShimError, match="fake CUDA tensors need g"):
        build_shim()
