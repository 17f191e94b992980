from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_factory import memory_spec, training_spec

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.alignment import align
from vnbench.batching.plan import PlanConfig
from vnbench.batching.sizes import SizeDistribution
from vnbench.batching.subset import choose_subset
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.images.decoding.gray_files import read_mask
from vnbench.images.decoding.gray_png import encode_mask
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.spec.words import SAMPLER_NAMES, ShapeVisits
from vnbench.records.step_columns import TRIAL_COLUMNS
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import run_trial
from vnbench.trial import entry as trial
from vnbench.trial.step.optimizer_step import OptimizerStep
from vnbench.trial.step.switches import PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY
from vnbench.units import PixelRange

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZES = SizeDistribution(widths=PixelRange(start=64, stop=160), heights=PixelRange(start=40, stop=80))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spec = CorpusSpec(num_examples=15, sizes=SIZES, task="multiclass", seed=0)
    return build_corpus(spec, tmp_path_factory.mktemp("corpus"))


def training(corpus: Corpus, **changes: Any) -> TrialSpec:
    values = {"corpus_id": corpus.corpus_id, "subset_size": 8, "num_warm_up_steps": 2}
    return training_spec(**(values | changes))


def run(spec: TrialSpec, directory: Path | None) -> TrialRecord:
    place = None if directory is None else str(directory)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=place)
    return run_trial(task, environment={"device_uuid": None}, timeout_s=600)


@pytest.mark.parametrize("switch", ["off", "on"])
def test_the_environment_is_described_with_the_switches_set(corpus: Corpus, switch: str) -> None:
    record = run(training(corpus, cudnn_benchmark=switch), corpus.directory)
    assert record.environment["cudnn_benchmark"] is (switch == "on")


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_trial_measures_its_subset_once_after_its_warm_up(corpus: Corpus, device: str) -> None:
    record = run(training(corpus, device=device, batch_size=4, micro_batch_size=2), corpus.directory)
    assert record.status == "ok", record.cause
    assert record.steps is not None
    assert record.block is not None
    assert set(record.steps) == set(TRIAL_COLUMNS)
    assert record.steps["is_warm_up"] == (True, True, False, False)
    assert record.steps["num_micro_batches"] == (2, 2, 2, 2)
    assert record.block.num_examples == 8
    assert record.block.num_steps == 2
    assert record.block.valid_pixels == sum(record.steps["valid_pixels"][2:])
    assert record.block.padded_pixels == sum(record.steps["padded_pixels"][2:])
    assert 0 < sum(record.steps["step_time_s"][2:]) <= record.block.wall_time_s * (1 + 1e-9)
    phases = ("data_wait_s", "h2d_s", "forward_s", "backward_s", "optimizer_s")
    for row in range(4):
        parts = [record.steps[name][row] for name in phases]
        assert min(parts[1:]) > 0
        if device == "cpu":
            assert sum(parts) <= record.steps["step_time_s"][row]
    assert all(np.isfinite(loss) for loss in record.steps["loss"])


@pytest.mark.parametrize(
    ("visits", "num_visited", "warm_up_canvases"),
    [("auto", 0, 4), ("warm", 4, 4), ("cold", 0, 1)],
)
def test_canvases_are_seen_before_they_are_timed_or_but_one_are_not(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, visits: ShapeVisits, num_visited: int, warm_up_canvases: int
) -> None:
    visited: list[tuple[int, ...]] = []
    monkeypatch.setenv(
        PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY
    )  # what a trial sets in this process goes with the test
    monkeypatch.setattr(
        OptimizerStep, "visit", lambda _, batch, *, timer: visited.append(tuple(batch.images_BHW.shape))
    )
    task = TrialTask(
        spec=training(corpus, shape_visits=visits, num_warm_up_steps=8),
        replicate=0,
        attempt=0,
        corpus_directory=str(corpus.directory),
    )
    record = TrialRecord.from_json(trial.run(task.to_json()))
    assert record.status == "ok", record.cause
    assert record.steps is not None
    canvases = list(zip(record.steps["canvas_height"], record.steps["canvas_width"], strict=True))
    assert len(set(canvases[8:])) == 4
    assert len(set(canvases[:8])) == warm_up_canvases
    assert len(visited) == num_visited
    assert not visited or {shape[-2:] for shape in visited} == set(canvases[8:])


def test_every_sampler_batch_and_worker_count_trains_on_the_same_examples(corpus: Corpus) -> None:
    records = [
        run(training(corpus, **changes), corpus.directory)
        for changes in (
            {"sampler": "random"},
            {"sampler": "bucketed", "batch_size": 4},
            {"sampler": "random", "batch_size": 3, "num_workers": 2},
        )
    ]
    blocks = [record.block for record in records]
    assert [record.status for record in records] == ["ok"] * 3
    assert len({block.valid_pixels for block in blocks if block is not None}) == 1
    assert [block.num_steps for block in blocks if block is not None] == [8, 2, 3]


def test_the_padding_ratio_is_that_of_the_full_plan(corpus: Corpus) -> None:
    record = run(training(corpus, batch_size=4, sampler="bucketed"), corpus.directory)
    config = PlanConfig(sampler="bucketed", batch_size=4, micro_batch_size=4)
    expected = account_for_epoch(corpus.sizes_N2[corpus.train_indices], config)
    assert record.batching == expected
    assert record.batching.num_examples == 12


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_every_sampler_trains_on_the_same_examples(corpus: Corpus, device: str, sampler: str) -> None:
    budget = 2 * 96 * 256 if sampler == "pixel-budget" else None
    changes = {"batch_size": 4, "micro_batch_size": 2, "sampler": sampler, "pixel_budget": budget}
    record = run(training(corpus, device=device, **changes), corpus.directory)
    assert record.status == "ok", record.cause
    assert record.block is not None
    chosen = corpus.train_indices[choose_subset(corpus.sizes_N2[corpus.train_indices], subset_size=8)]
    assert record.block.num_examples == 8
    assert record.block.num_steps == 2
    assert record.block.valid_pixels == corpus.sizes_N2[chosen].prod(axis=1).sum()


def test_few_shapes_are_what_the_measured_steps_are_padded_to(corpus: Corpus) -> None:
    free, few = (run(training(corpus, shapes=shapes), corpus.directory) for shapes in (None, 1))
    assert free.steps is not None
    assert few.steps is not None
    assert few.status == "ok", few.cause
    assert len({*zip(few.steps["canvas_height"], few.steps["canvas_width"], strict=True)}) == 1
    assert sum(few.steps["padded_pixels"]) > sum(free.steps["padded_pixels"])
    assert few.block is not None
    assert free.block is not None
    assert few.block.valid_pixels == free.block.valid_pixels
    # The canvas is that of all training examples, not of the few that are measured.
    largest = align(corpus.sizes_N2[corpus.train_indices].max(axis=0)).tolist()
    assert [few.steps["canvas_height"][0], few.steps["canvas_width"][0]] == largest


@pytest.mark.parametrize("device", DEVICES)
def test_a_memory_trial_reads_the_peak_of_a_worst_case_step(device: str) -> None:
    # On CUDA the libraries' workspaces, tens of MiB, must not hide the tensors.
    height, width = (96, 256) if device == "cpu" else (320, 3200)

    def peak(**changes: Any) -> int:
        spec = memory_spec(training_spec(device=device, **changes), height=height, width=width)
        record = run(spec, None)
        assert record.status == "ok", record.cause
        assert record.memory is not None
        assert record.memory.peak_allocated_bytes is not None
        assert record.memory.instrument == ("live-tensors" if device == "cpu" else "cuda-caching-allocator")
        return record.memory.peak_allocated_bytes

    one, two, checkpointed = peak(), peak(batch_size=2), peak(checkpointing="stages")
    assert 1.5 * one < two < 2.5 * one
    assert checkpointed < 0.9 * one


@pytest.mark.gpu
def test_a_memory_trial_tells_cold_from_warm_and_what_is_not_the_allocators() -> None:
    memory = run(memory_spec(training_spec(device="cuda"), height=320, width=3200), None).memory
    assert memory is not None
    assert memory.peak_allocated_bytes is not None
    assert memory.peak_reserved_bytes is not None
    assert memory.cold_peak_allocated_bytes is not None
    assert memory.peak_requested_bytes is not None
    assert memory.outside_allocator_bytes is not None
    assert memory.peak_requested_bytes <= memory.peak_allocated_bytes <= memory.peak_reserved_bytes
    assert memory.cold_peak_allocated_bytes >= 0.9 * memory.peak_allocated_bytes
    # A context alone takes more than a hundred MiB.
    assert memory.outside_allocator_bytes > 100 * 2**20


@pytest.mark.gpu
def test_a_memory_limit_on_the_gpu_is_that_of_its_allocator() -> None:
    spec = memory_spec(training_spec(device="cuda"), height=320, width=3200)
    free = run(spec, None).memory
    assert free is not None
    assert free.peak_reserved_bytes is not None
    tight = run(dataclasses.replace(spec, memory_limit_bytes=free.peak_reserved_bytes // 2), None)
    assert (tight.status, tight.cause.kind if tight.cause else None) == ("oom", "torch-out-of-memory")
    roomy = run(dataclasses.replace(spec, memory_limit_bytes=2 * free.peak_reserved_bytes), None)
    assert roomy.status == "ok", roomy.cause
    assert roomy.memory is not None
    assert roomy.memory.capacity_bytes == 2 * free.peak_reserved_bytes


@pytest.mark.parametrize("device", DEVICES)
def test_a_soak_leaves_the_allocated_peak_as_it_is(device: str) -> None:
    alone = memory_spec(training_spec(device=device), height=128, width=640)
    passes = ((1, 64, 320), (1, 128, 640), (1, 96, 480))
    soaked = dataclasses.replace(alone, soak="sampler-order", sampler="random", soak_passes=passes)
    peaks = []
    for spec in (alone, soaked):
        record = run(spec, None)
        assert record.status == "ok", record.cause
        assert record.memory is not None
        assert record.memory.peak_allocated_bytes is not None
        peaks.append(record.memory.peak_allocated_bytes)
        soak_bytes = record.memory.soak_peak_allocated_bytes
        # One of its passes is the worst case; a step on that holds a smallest micro-batch's gradients as well.
        assert soak_bytes is None if spec.soak is None else 0.9 * peaks[0] < soak_bytes <= peaks[0]
    assert peaks[1] == pytest.approx(peaks[0], rel=0 if device == "cpu" else 0.1)


def test_a_memory_limit_on_the_cpu_turns_a_trial_into_out_of_memory() -> None:
    spec = memory_spec(training_spec(), height=128, width=1280)
    tight = run(dataclasses.replace(spec, memory_limit_bytes=30 * 2**20), None)
    assert tight.cause is not None
    assert tight.status == "oom", tight.cause
    # Whoever asks first: torch's allocator or oneDNN.
    assert tight.cause.kind in ("host-allocation", "library-allocation")
    roomy = run(dataclasses.replace(spec, memory_limit_bytes=2 * 2**30), None)
    assert roomy.status == "ok", roomy.cause
    assert roomy.memory is not None
    assert roomy.memory.capacity_bytes == 2 * 2**30
    assert roomy.spec.family != spec.family, "another memory is another family"


def test_the_tracked_peak_is_the_same_in_every_run() -> None:
    spec = memory_spec(training_spec(precision="bf16"), height=64, width=160)
    first, second = (run(spec, None).memory for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.peak_allocated_bytes == second.peak_allocated_bytes


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_does_not_decode_is_named_and_the_trial_crashed(tmp_path: Path, num_workers: int) -> None:
    spec = CorpusSpec(num_examples=4, sizes=SIZES, task="multiclass", seed=0)
    broken = build_corpus(spec, tmp_path / "corpus")
    for index in broken.train_indices:
        broken.image_path(int(index)).write_bytes(b"this is no image")
    record = run(training(broken, num_workers=num_workers, subset_size=3), broken.directory)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("crashed", "unusable-image")
    assert str(tmp_path / "corpus" / "images") in record.cause.message


def test_a_corpus_that_changed_since_the_plan_crashes_the_trial(corpus: Corpus) -> None:
    record = run(training(corpus, corpus_id="0" * 12), corpus.directory)
    assert record.cause is not None
    assert record.status == "crashed"
    assert "the corpus changed" in record.cause.message


def test_running_out_of_memory_is_a_status_with_torchs_words() -> None:
    record = run(memory_spec(training_spec(batch_size=2**20)), None)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("oom", "host-allocation")


def test_a_loss_that_is_no_number_makes_the_trial_wrong() -> None:
    from vnbench.trial.checks.soundness import checked_loss

    record = TrialRecord(
        spec=training_spec(),
        replicate=0,
        attempt=0,
        status="ok",
        cause=None,
        environment={},
        started_at="2026-01-01T00:00:00+00:00",
        elapsed_s=1.0,
    )
    assert checked_loss(record, [1.0, 2.0], is_skipped=[False, False]).status == "ok"
    assert checked_loss(record, [1.0, float("inf")], is_skipped=[False, True]).status == "ok"
    wrong = checked_loss(record, [1.0, float("nan")], is_skipped=[False, False])
    assert wrong.status == "wrong"
    assert wrong.cause is not None
    assert wrong.cause.kind == "non-finite-loss"


@pytest.mark.gpu
def test_a_card_that_is_too_small_is_out_of_memory() -> None:
    task = TrialTask(spec=memory_spec(training_spec(device="cuda")), replicate=0, attempt=0, corpus_directory=None)
    entry = "scripted_child:run_on_half_a_percent_of_the_card"
    record = run_trial(task, environment={"device_uuid": None}, timeout_s=600, entry=entry)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("oom", "torch-out-of-memory")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_trains_on_cuda(corpus: Corpus, precision: str) -> None:
    record = run(training(corpus, device="cuda", precision=precision, num_workers=2), corpus.directory)
    assert record.status == "ok", record.cause
    assert record.memory is not None
    assert record.memory.num_alloc_retries == 0


def test_a_trial_trains_on_masks_of_its_own_numbers_and_leaves_some_pixels_out(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRIMITIVE_CACHE, PRIMITIVE_CACHE_CAPACITY)
    own = shutil.copytree(corpus.directory, tmp_path / "own")
    numbers = np.array([0, 100, 200], dtype=np.uint8)
    for name, mask_HW in _masks_of(corpus).items():
        marked_HW = numbers[mask_HW]
        marked_HW[:8] = 255
        (own / name).write_bytes(encode_mask(marked_HW))
    losses = {}
    for ignored in (None, 255):
        values = (0, 100, 200) if ignored else (0, 100, 200, 255)
        spec = training(load_corpus(own), mask_values=values, classes=None if ignored else 4, ignore_value=ignored)
        task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=str(own))
        record = TrialRecord.from_json(trial.run(task.to_json()))
        assert record.status == "ok", record.cause
        assert record.steps is not None
        assert record.spec == spec
        losses[ignored] = record.steps["loss"]
    assert losses[None] != losses[255]


def _masks_of(corpus: Corpus) -> dict[str, np.ndarray]:
    return {
        name: read_mask(corpus.directory / name, expected_size=tuple(size))
        for name, size in zip(corpus.mask_files, corpus.sizes_N2.tolist(), strict=True)
    }


@pytest.mark.parametrize("device", DEVICES)
def test_processes_that_repeat_themselves_have_the_same_weights_after_the_first_epoch(
    corpus: Corpus, device: str
) -> None:
    spec = training(corpus, device=device, max_epochs=2, deterministic="on")
    first, second, other = (run(one, corpus.directory) for one in (spec, spec, dataclasses.replace(spec, seed=1)))
    assert first.status == "ok", first.cause
    assert first.weights is not None
    assert first.weights.num_updates == 2 + 8, "after warm-up and one epoch, not two"
    assert first.weights == second.weights
    assert other.weights is not None
    assert other.weights.digest != first.weights.digest
