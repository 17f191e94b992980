from __future__ import annotations

import errno
import multiprocessing
import os
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from faulty_loader import FAILING_FILE
from record_factory import loader_spec

from vnbench.batching.plan import MicroBatch
from vnbench.batching.sizes import SizeDistribution
from vnbench.errors import LoaderError
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.records.failures import classify
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrainingSpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.sweep.runner import TRIAL_ENTRY, run_trial
from vnbench.trial.measuring.loaders import allow_open_files, check_shared_memory
from vnbench.units import PixelRange, count

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZES = SizeDistribution(widths=PixelRange(start=64, stop=160), heights=PixelRange(start=40, stop=80))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spec = CorpusSpec(num_examples=15, sizes=SIZES, task="multiclass", seed=0)
    return build_corpus(spec, tmp_path_factory.mktemp("corpus"))


def loading(corpus: Corpus, **changes: Any) -> TrialSpec:
    values = {"corpus_id": corpus.corpus_id, "subset_size": 12, "batch_size": 4, "max_epochs": 2}
    return loader_spec(**(values | changes))


def run(spec: TrialSpec, directory: Path, *, entry: str = TRIAL_ENTRY, worker_timeout_s: float = 600.0) -> TrialRecord:
    task = TrialTask(
        spec=spec, replicate=0, attempt=0, corpus_directory=str(directory), worker_timeout_s=worker_timeout_s
    )
    return run_trial(task, environment={"device_uuid": None}, timeout_s=600, entry=entry)


def names(record: TrialRecord) -> list[tuple[str, bool]]:
    assert record.status == "ok", record.cause
    return [(stage.name, stage.is_cold) for stage in record.stages]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_workers": 0}, ["plan", "collate cold", "decode", "collate", "device"]),
        ({"num_workers": 2}, ["plan", "workers cold", "empty-workers", "workers", "device"]),
        ({"num_workers": 2, "worker_kind": "threads"}, ["plan", "workers cold", "workers", "device"]),
    ],
)
def test_the_way_of_a_batch_is_measured_stage_by_stage(
    corpus: Corpus, changes: dict[str, Any], expected: list[str]
) -> None:
    record = run(loading(corpus, **changes), corpus.directory)
    assert [f"{name} cold" if is_cold else name for name, is_cold in names(record)] == expected
    assert TrialRecord.from_json(record.to_json()) == record
    for stage in record.stages[1:]:
        num_epochs = 1 if stage.is_cold else 2
        assert stage.num_examples == 12 * num_epochs
        assert len(stage.waits_s) == 3 * num_epochs
        assert all(wait_s > 0 for wait_s in stage.waits_s)
        assert stage.stop.rule == "max-epochs"
        assert (stage.start_up_s is not None) == (record.spec.num_workers != 0)
        assert stage.host_bytes is not None
        is_from_processes = record.spec.worker_kind == "processes" and record.spec.num_workers != 0
        if is_from_processes and stage.name != "empty-workers":
            assert stage.payload_bytes == 2 * stage.padded_pixels + 8 * stage.num_examples
        elif not is_from_processes:
            assert stage.payload_bytes == 0
    assert record.batching is not None
    assert record.batching.num_examples == 12
    assert record.measured_span_s is not None


@pytest.mark.gpu
@pytest.mark.parametrize("pin_memory", ["on", "off"])
def test_on_a_gpu_copies_are_stages_too(corpus: Corpus, pin_memory: str) -> None:
    record = run(loading(corpus, device="cuda", num_workers=2, pin_memory=pin_memory), corpus.directory)
    pinned = ["pinned"] if pin_memory == "on" else []
    assert [name for name, _ in names(record)] == [
        *("plan", "workers", "empty-workers", "workers"),
        *pinned,
        *("h2d", "device"),
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", [{"cache": "memory"}, {"cache": "disk"}, {"persistent_workers": "off"}])
def test_switches_of_the_loader_are_taken(corpus: Corpus, device: str, changes: dict[str, Any]) -> None:
    limit = {"cache_limit_bytes": 2**20} if "cache" in changes else {}
    record = run(loading(corpus, device=device, num_workers=2, **changes, **limit), corpus.directory)
    assert ("workers", False) in names(record)


def test_time_ends_a_stage_after_an_epoch(corpus: Corpus) -> None:
    record = run(loading(corpus, num_workers=0, max_epochs=50, max_measuring_s=1e-9), corpus.directory)
    assert {stage.stop.rule for stage in record.stages} == {"max-measuring-time", "max-epochs"}
    assert {len(stage.waits_s) for stage in record.stages if stage.name != "plan"} == {3}


def test_more_workers_than_cores_are_warned_of(corpus: Corpus) -> None:
    num_cores = len(os.sched_getaffinity(0))
    record = run(loading(corpus, num_workers=num_cores + 1), corpus.directory)
    (warning,) = [warning for warning in record.warnings if warning.code == "many-workers"]
    assert f"{count(num_cores + 1, 'loader worker')} on {count(num_cores, 'core')}" in warning.message


FAULTS = [
    ("lose_a_file", 600.0, "crashed", "unusable-image"),
    ("kill_a_worker", 600.0, "crashed", "worker-died"),
    # Long enough that no worker of a busy machine is held to hang that does not.
    ("hang_a_worker", 6.0, "timeout", "worker-hung"),
]


@pytest.mark.parametrize("kind", ["loader", "training"])
@pytest.mark.parametrize(("fault", "worker_timeout_s", "status", "cause"), FAULTS)
def test_a_fault_of_a_worker_is_a_record_with_its_cause_and_its_example(
    corpus: Corpus, tmp_path: Path, kind: str, fault: str, worker_timeout_s: float, status: str, cause: str
) -> None:
    directory = shutil.copytree(corpus.directory, tmp_path / "corpus")
    spec = loading(corpus, num_workers=2)
    if kind == "training":
        spec = TrainingSpec.from_dict(spec.canonical() | {"kind": "training", "num_warm_up_steps": 1})
    record = run(spec, directory, entry=f"faulty_loader:{fault}", worker_timeout_s=worker_timeout_s)
    assert record.status == status, record.cause
    assert record.cause is not None
    assert record.cause.kind == cause, record.cause
    assert FAILING_FILE in record.cause.message


def test_a_full_shared_memory_is_told_before_a_worker_dies_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs("/dev/shm")
    status = os.statvfs_result((4096, 4096, 16_384, 16_384, 16_384, *tuple(real)[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    batches = [MicroBatch((0,) * 16, (640, 12_800))] * 20
    check_shared_memory(batches[:1], num_workers=0, prefetch_factor=2)
    with pytest.raises(LoaderError, match=r"/dev/shm has 64\.0 MiB free, but 1\.46 GiB are needed by 2 workers"):
        check_shared_memory(batches, num_workers=2, prefetch_factor=2)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSYS])
def test_a_missing_shared_memory_is_told_before_workers_start(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(multiprocessing.context.ForkContext, "Lock", refuse)
    with pytest.raises(LoaderError, match=re.escape(os.strerror(number))) as caught:
        check_shared_memory([MicroBatch((0,), (64, 64))], num_workers=2, prefetch_factor=2)
    assert classify(caught.value)[1].kind == "shared-memory"


def test_workers_whose_batches_take_more_open_files_than_allowed_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    allow_open_files(num_workers=1, prefetch_factor=2)
    with pytest.raises(
        LoaderError, match=r"64 files open \(ulimit -Hn\), and --num-workers 8 with --prefetch-factor 16 needs"
    ) as caught:
        allow_open_files(num_workers=8, prefetch_factor=16)
    assert classify(caught.value)[1].kind == "open-files"


def test_a_limit_of_open_files_that_may_be_raised_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: raised.append(limits))
    allow_open_files(num_workers=1, prefetch_factor=2)
    assert raised == []
    allow_open_files(num_workers=8, prefetch_factor=16)
    assert 8 * 16 * 3 < raised[0][0] < 4096
    assert raised[0][1] == 4096
