from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import torch
import torch.utils.deterministic
from record_factory import memory_spec, training_spec

from vnbench.processes.parent import run_child
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import Deterministic, Precision
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.step.switches import set_switches

USERS_SETTINGS = "garbage_collection_threshold:0.8"
needs_cuda_build = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs a torch with CUDA in it")


@pytest.fixture(autouse=True)
def same_flags_afterwards() -> Iterator[None]:
    benchmark, environment = torch.backends.cudnn.benchmark, dict(os.environ)
    yield
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def settings_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what the allocator is told, as if there were CUDA."""
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    return told


def test_on_the_cpu_prepared_kernels_of_many_canvases_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    set_switches(training_spec())
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "16384"
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    set_switches(training_spec())
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "64", "who set it knows why"


@pytest.mark.parametrize("spec", [memory_spec(training_spec()), training_spec(memory_limit_bytes=2**40)])
def test_where_memory_is_measured_or_limited_they_are_not(spec: TrialSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setattr("vnbench.trial.step.switches.limit_memory", lambda *_, **__: None)
    set_switches(spec)
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ


@pytest.mark.usefixtures("settings_made")
def test_on_cuda_plans_of_many_canvases_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT", raising=False)
    set_switches(training_spec())
    assert "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT" not in os.environ, "a CPU has none"
    set_switches(training_spec(device="cuda"))
    assert os.environ["TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"] == "65536"
    monkeypatch.setenv("TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT", "0")
    set_switches(training_spec(device="cuda"))
    assert os.environ["TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"] == "0", "who set it knows why"


@pytest.mark.parametrize("before", [False, True])
def test_cudnn_times_algorithms_only_where_it_is_asked_to_whatever_was_set_before(before: bool) -> None:
    torch.backends.cudnn.benchmark = before
    set_switches(training_spec())
    assert not torch.backends.cudnn.benchmark
    set_switches(training_spec(cudnn_benchmark="on"))
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("precision", "expected"), [("tf32", "tf32"), ("fp32", "ieee"), ("bf16", "ieee")])
def test_tf32_is_used_only_where_it_is_asked_for(precision: Precision, expected: str) -> None:
    set_switches(training_spec(precision=precision))
    assert torch.backends.cuda.matmul.fp32_precision == expected
    assert torch.backends.cudnn.conv.fp32_precision == expected  # type: ignore[attr-defined]
    assert torch.backends.cudnn.rnn.fp32_precision == expected, "of a network of one's own"  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["tf32", "fp32", "bf16"])
def test_who_asks_for_tf32_by_its_older_names_is_told_the_same(precision: Precision) -> None:
    """torch raises where old and new names disagree: in a network that switches cuDNN off for a while, for one."""
    onednn = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    set_switches(training_spec(precision=precision))
    assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
    assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
    with torch.backends.cudnn.flags(enabled=False):
        pass
    assert torch.backends.mkldnn.matmul.fp32_precision == onednn, "the CPU's stay"  # type: ignore[attr-defined]


def test_expandable_segments_join_the_users_settings_and_stand_in_the_environment(
    settings_made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", USERS_SETTINGS)
    set_switches(training_spec(device="cuda", allocator="expandable-segments"))
    assert settings_made == [f"{USERS_SETTINGS},expandable_segments:True"]
    assert os.environ["PYTORCH_ALLOC_CONF"] == settings_made[0]
    assert "PYTORCH_CUDA_ALLOC_CONF" not in os.environ


def test_the_native_allocator_is_native_whatever_the_environment_says(
    settings_made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    set_switches(training_spec(device="cuda"))
    assert settings_made == ["expandable_segments:True,expandable_segments:False"]


def test_an_allocator_that_is_native_already_is_left_as_it_is(
    settings_made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", USERS_SETTINGS)
    set_switches(training_spec(device="cuda"))
    assert settings_made == []
    assert os.environ["PYTORCH_ALLOC_CONF"] == USERS_SETTINGS


def test_no_allocator_of_the_gpu_is_set_on_the_cpu(settings_made: list[str]) -> None:
    set_switches(training_spec(allocator="expandable-segments"))
    assert settings_made == []


@pytest.mark.usefixtures("settings_made")
def test_a_process_in_which_cuda_cannot_be_used_is_told_before_a_limit_asks_cuda(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA was used before this process was forked"):
        set_switches(training_spec(device="cuda", memory_limit_bytes=2**30))


@pytest.mark.parametrize("allocator", ["native", "expandable-segments"])
def test_another_backend_of_the_allocator_is_refused(monkeypatch: pytest.MonkeyPatch, allocator: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    with pytest.raises(RuntimeError, match=f"backend:cudaMallocAsync, which conflicts with --allocator {allocator}"):
        set_switches(training_spec(device="cuda", allocator=allocator))


def settings_of_the_allocator(payload: str) -> str:
    """Run in a child: return the allocator's settings after the switches of an allocator were set."""
    os.environ["PYTORCH_ALLOC_CONF"] = USERS_SETTINGS
    set_switches(training_spec(device="cuda", allocator=payload))
    return json.dumps(torch.cuda.memory._snapshot()["allocator_settings"])


@needs_cuda_build
@pytest.mark.parametrize("allocator", ["native", "expandable-segments"])
def test_a_child_of_the_forkserver_takes_the_setting_after_torch_was_imported(allocator: str) -> None:
    outcome = run_child("test_switches:settings_of_the_allocator", allocator, timeout_s=600)
    assert outcome.answer is not None, outcome.log_tail
    settings = json.loads(outcome.answer)
    assert settings["expandable_segments"] == (allocator == "expandable-segments")
    if allocator == "expandable-segments":
        assert settings["garbage_collection_threshold"] == pytest.approx(0.8)


def segments_of_the_allocator(payload: str) -> str:
    """Run in a child: return whether each segment is expandable after the model and a map were put on the GPU."""
    spec = training_spec(device="cuda", allocator=payload)
    set_switches(spec)
    build_step(spec, device=torch.device("cuda"))
    large = torch.zeros(2**24, device="cuda")
    segments = [segment["is_expandable"] for segment in torch.cuda.memory_snapshot()]
    del large
    return json.dumps(segments)


@pytest.mark.gpu
@pytest.mark.parametrize("allocator", ["native", "expandable-segments"])
def test_every_segment_of_a_trial_is_expandable_or_none(allocator: str) -> None:
    outcome = run_child("test_switches:segments_of_the_allocator", allocator, timeout_s=600)
    assert outcome.answer is not None, outcome.log_tail
    assert set(json.loads(outcome.answer)) == {allocator == "expandable-segments"}


@pytest.mark.gpu
@pytest.mark.parametrize("cudnn_benchmark", ["off", "on"])
def test_cudnn_times_as_many_algorithms_as_torch_says(cudnn_benchmark: str) -> None:
    torch.backends.cudnn.benchmark = cudnn_benchmark == "off"
    set_switches(training_spec(device="cuda", cudnn_benchmark=cudnn_benchmark))
    assert torch.backends.cudnn.benchmark == (cudnn_benchmark == "on")
    assert torch.backends.cudnn.benchmark_limit == 10


@pytest.mark.parametrize(
    ("deterministic", "is_on", "is_filled"), [("off", False, False), ("on", True, True), ("on-unfilled", True, False)]
)
def test_kernels_that_repeat_themselves_are_asked_for_strictly(
    deterministic: Deterministic, is_on: bool, is_filled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(not is_on)
    set_switches(training_spec(deterministic=deterministic))
    assert torch.are_deterministic_algorithms_enabled() is is_on
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is is_filled
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if is_on else None)


def test_an_operator_that_does_not_repeat_itself_is_an_error_and_no_warning() -> None:
    set_switches(training_spec(deterministic="on"))
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)
