from __future__ import annotations

from pathlib import Path

import pytest
from record_factory import snapshot_spec

from vnbench.batching.sizes import SizeDistribution
from vnbench.images.corpus import Corpus
from vnbench.images.synthesis import CorpusSpec, build_corpus
from vnbench.loops.snapshot_trial import file_system_of, run
from vnbench.records.record import TrialRecord
from vnbench.records.task import TrialTask
from vnbench.sweep.estimate import MIN_EPOCH_PAIRS
from vnbench.units import PixelRange

SIZES = SizeDistribution(widths=PixelRange(start=64, stop=160), heights=PixelRange(start=32, stop=64))


@pytest.fixture(scope="module", name="corpus")
def _corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spec = CorpusSpec(num_examples=10, sizes=SIZES, task="multiclass", seed=0)
    return build_corpus(spec, tmp_path_factory.mktemp("corpus"))


def measured(corpus: Corpus, **changes: object) -> TrialRecord:
    spec = snapshot_spec(corpus_id=corpus.corpus_id, batch_size=2, micro_batch_size=2, subset_size=8, **changes)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=str(corpus.directory))
    return TrialRecord.from_json(run(task.to_json()))


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_epochs_with_snapshots_and_without_are_trained_in_turn(mode: str, corpus: Corpus, tmp_path: Path) -> None:
    record = measured(corpus, snapshot_mode=mode, snapshot_target=str(tmp_path), max_measuring_s=0.0)
    assert (record.status, record.cause) == ("ok", None)
    reading = record.snapshot
    assert reading is not None
    assert len(reading.epoch_pairs_s) == MIN_EPOCH_PAIRS
    assert (reading.num_steps, reading.num_saves) == (4, 3)
    assert len(reading.held_up_s) == MIN_EPOCH_PAIRS * reading.num_saves
    assert len(reading.written_s) == len(reading.read_s) == reading.num_saves
    assert reading.num_bytes > 1_000_000
    restart = reading.restart
    assert restart is not None
    assert restart.imports_s > restart.interpreter_s > 0
    assert min(restart.set_up_s, restart.load_s, restart.loader_s) > 0
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.processes
def test_a_target_that_is_gone_is_a_record_with_its_cause(corpus: Corpus, tmp_path: Path) -> None:
    record = measured(corpus, snapshot_target=str(tmp_path / "gone"))
    assert record.status == "crashed"
    assert record.cause is not None
    assert "there is no such folder" in record.cause.message


def test_the_file_system_of_a_folder_is_known(tmp_path: Path) -> None:
    assert file_system_of(tmp_path)
    assert file_system_of(Path("/proc")) == "proc"
