from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import record_factory as factory

from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import ImagesSpec, MemorySpec

LARGE, SMALL = "1a26e0000000", "53a110000000"


def training(corpus_id: str, *, seed: int = 0) -> TrialRecord:
    return factory.measured_training_record(factory.training_spec(corpus_id=corpus_id, seed=seed))


def memory(*, height: int = 640, width: int = 12_800) -> TrialRecord:
    spec = factory.memory_spec(factory.training_spec(), height=height, width=width)
    return factory.record_of(spec)


def write(path: Path, *records: TrialRecord) -> Path:
    path.write_text("".join(f"{record.to_json()}\n" for record in records), encoding="utf-8")
    return path


def test_files_of_one_corpus_are_read_together(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.jsonl", training(LARGE), memory()),
        write(tmp_path / "b.jsonl", training(LARGE, seed=1)),
        write(tmp_path / "unnamed.jsonl", memory(width=6400)),
    ]
    assert len(load_one_corpus(paths).records) == 4
    assert len(load_one_corpus(paths, corpus_id=LARGE).records) == 4


def test_several_corpora_are_refused_by_name_with_what_to_do(tmp_path: Path) -> None:
    large, small = write(tmp_path / "a.jsonl", training(LARGE)), write(tmp_path / "b.jsonl", training(SMALL))
    mixed = write(tmp_path / "c.jsonl", training(LARGE), training(SMALL))
    with pytest.raises(InputError) as refused:
        load_one_corpus([large, small])
    for part in (f"corpus {LARGE} in {large}, up to ", f"corpus {SMALL} in {small}", f"--corpus-id {LARGE}"):
        assert part in str(refused.value)
    with pytest.raises(InputError, match="of one corpus at a time"):
        load_one_corpus([mixed])


def test_a_choice_takes_the_trials_of_its_corpus_and_those_of_its_files_that_name_none(tmp_path: Path) -> None:
    large = write(tmp_path / "a.jsonl", training(LARGE), memory())
    small = write(tmp_path / "b.jsonl", training(SMALL), memory(height=64, width=160))
    loaded = load_one_corpus([large, small], corpus_id=LARGE)
    assert [record.corpus_id for record in loaded.records] == [LARGE, None]
    assert isinstance(loaded.records[1].spec, MemorySpec)
    assert loaded.notes == ()


def test_trials_that_may_be_of_another_corpus_are_left_out_with_a_note(tmp_path: Path) -> None:
    mixed = write(tmp_path / "c.jsonl", training(LARGE), training(SMALL), memory(), memory(height=64, width=160))
    loaded = load_one_corpus([mixed], corpus_id=LARGE)
    assert [record.corpus_id for record in loaded.records] == [LARGE]
    assert loaded.notes == (
        f"{mixed}: 2 compute or memory trials left out: the file holds several corpora, and these trials do not "
        "name theirs; to measure them again, sweep this corpus into its own file",
    )


def test_peaks_with_the_gradients_of_the_step_before_and_without_are_told_apart(tmp_path: Path) -> None:
    spec = factory.memory_spec(factory.training_spec())

    def peak(name: str, instrument: str) -> Path:
        reading = factory.reading_of(spec, peak_bytes=930, instrument=instrument)
        return write(tmp_path / name, training(LARGE), factory.record_of(spec, memory=reading))

    old, traced = peak("old.jsonl", "live-tensor-tracker"), peak("traced.jsonl", "traced")
    new = peak("new.jsonl", "live-tensors")
    assert load_one_corpus([old, traced]).notes == load_one_corpus([new]).notes == ()
    told = (
        "peaks of an older revision (2 trials) also hold the gradients of the step before, those of 1 trial do not: "
        "a memory law of both is wrong; give the files of one revision at a time"
    )
    assert load_one_corpus([old, new, traced]).notes == (told,)
    assert load_one_corpus([old, new, traced], corpus_id=LARGE).notes == (told,)


@pytest.mark.parametrize(("records", "told"), [((training(LARGE),), LARGE), ((memory(),), "no corpus")])
def test_a_corpus_that_is_not_there_is_refused(tmp_path: Path, records: tuple[TrialRecord, ...], told: str) -> None:
    with pytest.raises(InputError, match=f"--corpus-id nothing: the records name {told}"):
        load_one_corpus([write(tmp_path / "a.jsonl", *records)], corpus_id="nothing")


@pytest.fixture
def two_corpora(tmp_path: Path) -> list[str]:
    """Return a campaign of large images, and one of small ones that take a hundredth of the time."""
    (corpus_id,) = {record.corpus_id for record in factory.gpu_campaign()} - {None}
    assert corpus_id != SMALL
    small = [
        dataclasses.replace(record, spec=dataclasses.replace(record.spec, corpus_id=SMALL))
        if isinstance(record.spec, ImagesSpec)
        else record
        for record in factory.gpu_campaign()
    ]
    return [
        str(write(tmp_path / "large.jsonl", *factory.gpu_campaign())),
        str(write(tmp_path / "small.jsonl", *small)),
        str(corpus_id),
    ]


RUN = ["--examples", "600", "--epochs", "10"]


def test_no_command_pools_two_corpora(
    two_corpora: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large, small, corpus_id = two_corpora
    out = ["--out", str(tmp_path / "out")]
    runs = tmp_path / "runs.toml"
    runs.write_text('[[run]]\nname = "a"\nexamples = 600\nepochs = 10\n')
    for command in (["plan", *RUN], ["plan", "--runs", str(runs)], ["fit"], ["plot", *out], ["report", *out]):
        assert run([command[0], large, small, *command[1:]]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"corpus {corpus_id} in {large}" in captured.err
        assert f"corpus {SMALL} in {small}" in captured.err


def test_a_plan_of_the_corpus_that_was_chosen_is_that_of_its_file_alone(
    two_corpora: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    large, small, corpus_id = two_corpora
    plans = []
    for arguments in ([large], [large, small, "--corpus-id", corpus_id]):
        assert run(["plan", *arguments, *RUN, "--json"]) == 0
        plans.append(json.loads(capsys.readouterr().out)["recommended"])
    assert plans[0] == plans[1]


def test_a_fit_takes_a_choice(two_corpora: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    large, small, _ = two_corpora
    assert run(["fit", large, small, "--corpus-id", SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"]
