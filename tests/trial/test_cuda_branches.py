"""The branches of trials for CUDA, walked through on the CPU; what a GPU does in them is for the tests marked gpu."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory
import stand_in_cuda
import torch
from stand_in_graphs import make_graphed

from vnbench.batching.sizes import SizeDistribution
from vnbench.batching.trial_epoch import MEASURED_EPOCH
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.trial import entry as trial
from vnbench.trial.checks import large_tensors
from vnbench.trial.instruments import environment
from vnbench.trial.kinds import compute as compute_trial
from vnbench.trial.kinds import probe as probe_trial
from vnbench.trial.kinds import profile as profile_trial
from vnbench.trial.measuring.corpus_steps import choose_examples, steps_of_epoch
from vnbench.trial.measuring.loaders import Loading
from vnbench.trial.step.switches import PLAN_CACHE, PLAN_CACHE_LIMIT
from vnbench.units import PixelRange

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: the tests marked gpu tell more"),
    # Python 3.12 and later warn of every fork of a process that has threads, as one that computed with torch has.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

SIZES = SizeDistribution(widths=PixelRange(start=64, stop=160), heights=PixelRange(start=32, stop=64))
CANVASES = ((64, 160), (32, 64))


@pytest.fixture(scope="module", name="corpus")
def _corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spec = CorpusSpec(num_examples=10, sizes=SIZES, task="multiclass", seed=0)
    return build_corpus(spec, tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLAN_CACHE, "")  # so that what a trial sets goes with the test
    monkeypatch.delenv(PLAN_CACHE)
    stand_in_cuda.install(monkeypatch)


def answer(run: Any, spec: TrialSpec, directory: Path) -> str:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=str(directory))
    with stand_in_cuda.TensorsOnCpu():
        text: str = run(task.to_json())
    return text


def run(spec: TrialSpec, directory: Path) -> TrialRecord:
    record = TrialRecord.from_json(answer(trial.run, spec, directory))
    assert record.status == "ok", record.cause
    assert record.environment["device_name"] == "a stand-in"
    assert record.environment["cudnn_plan_cache_limit"] == PLAN_CACHE_LIMIT
    return record


def training(**changes: Any) -> TrainingSpec:
    return factory.training_spec(device="cuda", batch_size=2, subset_size=4, **changes)


@pytest.mark.parametrize("soak", [None, ((2, 64, 96), (1, 64, 160))], ids=["alone", "after a soak"])
def test_memory(soak: tuple[tuple[int, int, int], ...] | None, tmp_path: Path) -> None:
    spec = factory.memory_spec(training(precision="bf16"), height=64, width=160)
    if soak is not None:
        spec = dataclasses.replace(spec, sampler="bucketed", soak="sampler-order", soak_passes=soak)
    memory = run(spec, tmp_path).memory
    assert memory is not None
    assert memory.instrument == "cuda-caching-allocator"
    assert memory.peak_reserved_bytes == stand_in_cuda.NUM_BYTES
    assert memory.outside_allocator_bytes == stand_in_cuda.NUM_BYTES
    assert memory.cold_peak_allocated_bytes is not None
    assert (memory.soak_peak_allocated_bytes is not None) == (soak is not None)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_compute(precision: str, tmp_path: Path) -> None:
    spec = factory.compute_spec(
        device="cuda", precision=precision, micro_batch_size=2, canvas_sizes=CANVASES, min_steps=2, max_steps=2
    )
    record = run(spec, tmp_path)
    assert [canvas.peak_reserved_bytes for canvas in record.canvases or ()] == [stand_in_cuda.NUM_BYTES] * 2
    assert record.steps is not None
    for step_s, *phases_s in zip(
        *(record.steps[f"{name}_s"] for name in ("step_time", "h2d", "forward", "backward", "optimizer")), strict=True
    ):
        assert 0 < sum(phases_s) <= step_s
    assert record.equality is not None
    assert record.equality.is_equal


@pytest.mark.parametrize("kind", ["compute", "memory", "training"])
def test_the_memory_of_replays_is_that_of_their_capture(
    kind: str, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peaks never start anew between a capture and the last replay."""
    seen: list[str] = []

    def captured(*args: Any, **how: Any) -> Any:
        seen.append("captured")
        return make_graphed(*args, **how)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captured)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=None: seen.append("reset"))
    trained = training(shapes=1, num_workers=0, corpus_id=corpus.corpus_id, cuda_graphs="on")
    compute = factory.compute_spec(
        device="cuda", canvas_sizes=CANVASES[:1], min_steps=2, max_steps=2, micro_batch_size=2, cuda_graphs="on"
    )
    memory = factory.memory_spec(trained, height=64, width=160)
    run({"compute": compute, "memory": memory, "training": trained}[kind], corpus.directory)
    assert seen[-2:] == ["reset", "captured"]


def test_no_canvas_is_captured_once_a_loader_is_at_work(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up has a canvas that the measured steps have not."""
    seen: list[str] = []
    epochs = Loading.epochs

    def begun(loading: Loading, *args: Any, **how: Any) -> Any:
        seen.append("loader")
        return epochs(loading, *args, **how)

    def captured(*args: Any, **how: Any) -> Any:
        seen.append("captured")
        return make_graphed(*args, **how)

    monkeypatch.setattr(Loading, "epochs", begun)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", captured)
    spec = training(shapes=2, num_workers=0, corpus_id=corpus.corpus_id, cuda_graphs="on")
    examples = choose_examples(spec, corpus)
    warm_up, measured = (
        {
            (len(one.examples), *one.canvas)
            for one in itertools.chain(*steps_of_epoch(spec, corpus, examples, epoch=epoch))
        }
        for epoch in (0, MEASURED_EPOCH)
    )
    assert warm_up - measured
    run(spec, corpus.directory)
    assert "captured" in seen
    assert seen[-1] == "loader"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training(num_workers: int, corpus: Corpus) -> None:
    spec = training(micro_batch_size=1, num_workers=num_workers, precision="fp16", corpus_id=corpus.corpus_id)
    record = run(spec, corpus.directory)
    assert record.memory is not None
    assert record.memory.instrument == "cuda-caching-allocator"
    assert record.block is not None
    assert record.block.num_examples >= 4


def test_loader(corpus: Corpus) -> None:
    spec = factory.loader_spec(device="cuda", batch_size=2, subset_size=4, max_epochs=1, corpus_id=corpus.corpus_id)
    stages = [stage.name for stage in run(spec, corpus.directory).stages]
    assert stages[-3:] == ["pinned", "h2d", "device"]


FAULT = "CUDA error: an illegal memory access was encountered"


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError(FAULT)


def answer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question to CUDA be answered with a fault, as after some faults; the text is not that of the first."""

    def raise_again(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: asked after a fault")

    for name in ("memory_stats", "empty_cache", "synchronize", "mem_get_info", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, raise_again)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", raise_again)


def test_a_fault_after_which_cuda_answers_nothing_leaves_what_was_observed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measure = compute_trial._measure_canvas

    def measure_one(log: Any, step: Any, spec: TrialSpec, size: tuple[int, int], flops: Any, *, own: Any) -> Any:
        if size == CANVASES[0]:
            return measure(log, step, spec, size, flops, own=own)
        answer_nothing(monkeypatch)
        return fail()

    monkeypatch.setattr(compute_trial, "_measure_canvas", measure_one)
    spec = factory.compute_spec(device="cuda", canvas_sizes=CANVASES, min_steps=1, max_steps=1)
    record = TrialRecord.from_json(answer(trial.run, spec, tmp_path))
    assert record.cause is not None
    assert (record.status, record.cause.message) == ("crashed", f"RuntimeError: {FAULT}")
    assert len(record.canvases or ()) == 1
    assert record.memory is not None


def test_a_fault_in_a_pass_of_large_tensors_is_told_and_not_what_cuda_answers_after_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def errors(*_: Any, **__: Any) -> Any:
        answer_nothing(monkeypatch)
        return fail()

    monkeypatch.setattr(large_tensors, "INDEX_LIMIT", 64 * 160)
    monkeypatch.setattr(large_tensors, "MAX_ELEMENTS_PER_PIXEL", 10**6)
    monkeypatch.setattr(large_tensors, "_errors", errors)
    monkeypatch.setattr(large_tensors, "largest_tensor", lambda *_, **__: 2 * 64 * 160)
    spec = factory.compute_spec(device="cuda", micro_batch_size=2, canvas_sizes=CANVASES[:1], min_steps=1, max_steps=1)
    record = TrialRecord.from_json(answer(trial.run, spec, tmp_path))
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("crashed", "index-overflow")
    assert record.cause.message == f"RuntimeError: {FAULT}"
    assert record.large_tensors is not None


def test_a_fault_in_a_profile_is_told_and_not_what_cuda_answers_after_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(*_: Any) -> Any:
        answer_nothing(monkeypatch)
        return fail()

    monkeypatch.setattr(profile_trial, "_measured", measured)
    told = json.loads(answer(profile_trial.run, factory.memory_spec(training(), height=64, width=160), tmp_path))
    assert (told["status"], told["cause"]["message"]) == ("crashed", f"RuntimeError: {FAULT}")


@pytest.mark.parametrize("run_one", [trial.run, profile_trial.run], ids=["trial", "profile"])
def test_a_process_forked_after_a_question_to_cuda_is_told(
    run_one: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    told = json.loads(answer(run_one, factory.memory_spec(training(), height=64, width=160), tmp_path))
    assert told["status"] == "crashed"
    assert "CUDA was used before this process was forked" in told["cause"]["message"]


def test_before_a_sweep_a_process_forked_after_a_question_to_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RuntimeError, match="CUDA was used before this process was forked"):
        environment.probe("auto")
    with pytest.raises(RuntimeError, match="CUDA was used before this process was forked"):
        probe_trial.convolution_times('{"device": "cuda", "precisions": ["fp32"]}')


def test_profile(tmp_path: Path) -> None:
    spec = factory.memory_spec(training(), height=64, width=160)
    told = json.loads(answer(profile_trial.run, spec, tmp_path))
    assert (told["status"], told["instrument"]) == ("ok", "cuda-caching-allocator")
    assert told["measured_peak_bytes"] == stand_in_cuda.NUM_BYTES
    assert (tmp_path / profile_trial.SNAPSHOT_NAME).exists()


def test_the_history_of_a_profile_holds_python_stacks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    arguments = inspect.signature(torch.cuda.memory._record_memory_history_impl)
    monkeypatch.setattr(
        torch.cuda.memory, "_record_memory_history", lambda **how: asked.append(arguments.bind(**how).arguments)
    )
    answer(profile_trial.run, factory.memory_spec(training(), height=64, width=160), tmp_path)
    assert [one.get("stacks", "all") for one in asked if one.get("enabled", "all")] == ["python"]
    assert asked[-1]["enabled"] is None, "it ends with the profile"
