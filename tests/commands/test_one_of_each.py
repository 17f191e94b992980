"""What commands say of results with one trial, one image and one row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import record_factory as factory

from vnbench.cli.app import run
from vnbench.records.record import TrialRecord

PLURAL = re.compile(r"(?<![\w.,/±-])(?<!up to )(?<!of )1 (?:[a-z-]+ ){0,2}?(?P<noun>[a-z-]+s)\b")
"""A one that stands before a word that ends as plurals do."""

SINGULAR = frozenset(
    ["canvas", "pass", "process", "loss", "is", "was", "less", "as", "across", "this", "its", "finishes"]
)
"""Words that end in s, and are no plurals."""

TRAINING = factory.training_spec(batch_size=1, num_workers=1)
RECORDS: Sequence[TrialRecord] = (
    factory.measured_training_record(TRAINING),
    factory.measured_memory_record(TRAINING),
    factory.measured_compute_record(factory.compute_spec(device="cpu", model="veernet-tiny")),
    factory.measured_loader_record(factory.loader_spec(batch_size=1, num_workers=1)),
)


def plurals(text: str) -> list[str]:
    """Return where a text says one of several."""
    return [found[0] for found in PLURAL.finditer(text) if found["noun"] not in SINGULAR]


def test_the_search_finds_a_plural_after_a_one() -> None:
    assert plurals("1 configurations in 1 trial") == ["1 configurations"]
    assert plurals("with 1 loader workers") == ["1 loader workers"]
    assert plurals("1 of 2 trials, 11 steps, 0.1 pixels, 1 pass") == []


@pytest.fixture
def results(tmp_path: Path) -> str:
    path = tmp_path / "one.jsonl"
    path.write_text("".join(record.to_json() + "\n" for record in RECORDS))
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        "plan RESULTS --examples 1 --epochs 1 --window 1h --interruptions 1",
        "plan RESULTS --examples 1 --epochs 1 --interruptions 9",
        "fit RESULTS",
        "gate RESULTS RESULTS",
        "gate RESULTS RESULTS --json",
        "gate FOLDER/new.json RESULTS --update",
        "gate --calibrate RESULTS",
        "batching --widths 640:640 --examples 1 --batch-size 1 --sampler random --shapes 1",
        "batching --widths 640:640 --examples 1 --batch-size 1 --sampler random --ranks 1",
        "report RESULTS --out FOLDER/report",
        f"forecast --snapshot {Path(__file__).parents[2]}/benchmarks/recordings/linear.json --card 5GiB",
    ],
)
def test_one_of_anything_is_told_as_one(
    command: str, results: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(command.replace("RESULTS", results).replace("FOLDER", str(tmp_path)).split())
    told = capsys.readouterr()
    assert code in (0, 1, 2, 3)
    texts = [told.out, told.err, *(path.read_text() for path in tmp_path.glob("report/*.md"))]
    assert any(len(text.split()) > 5 for text in texts)
    assert [found for text in texts for found in plurals(text)] == []
