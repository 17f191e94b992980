from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vnbench.cli.app import run

ROOT = Path(__file__).parents[2]
LINEAR = ROOT / "benchmarks" / "recordings" / "linear.json"
FINETUNING = ROOT / "tests" / "forecast" / "traces" / "finetuning.json.gz"
MIB, GIB = 2**20, 2**30

CONTEXT = 800 * MIB
"""What a card of which nothing else is known keeps for itself."""


def forecast(*arguments: object, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["forecast", *map(str, arguments), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert isinstance(answer, dict)
    return answer


def told(*arguments: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["forecast", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def refused(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["forecast", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def written(tmp_path: Path, *events: list[Any], **more: Any) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"events": events, **more}), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", [LINEAR, FINETUNING], ids=lambda path: path.name)
def test_a_real_run_is_replayed_to_the_byte_and_the_segment(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = forecast("--snapshot", path, capsys=capsys)
    recorded = answer["recorded"]
    assert answer["peak_reserved_bytes"] == recorded["peak_reserved_bytes"] > GIB
    assert answer["num_segments"] == recorded["num_segments"] > 0
    assert (answer["num_retries"], answer["fits"], answer["allocator"]) == (0, True, "native")
    assert answer["notes"] == []


def test_without_a_card_the_memory_has_no_end_and_a_sentence_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert told("--snapshot", LINEAR, capsys=capsys) == [
        "The run takes 4.13 GiB at its peak, 0.1 % above the 4.13 GiB that tensors take."
    ]


def test_a_card_leaves_its_memory_less_the_largest_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, ["alloc", 0, GIB, 0])
    answer = forecast("--snapshot", path, "--card", "1824MiB", capsys=capsys)
    assert (answer["capacity_bytes"], answer["context_bytes"]["high"]) == (GIB, CONTEXT)
    assert (answer["fits"], answer["verdict"]) == (True, "fits")
    answer = forecast("--snapshot", path, "--card", "1823MiB", capsys=capsys)
    assert (answer["fits"], answer["verdict"], answer["num_retries"]) == (False, "tight", 1)
    answer = forecast("--snapshot", path, "--card", "1200MiB", capsys=capsys)
    assert (answer["fits"], answer["verdict"]) == (False, "does not fit")
    assert (answer["failed_at_event"], answer["failed_bytes"]) == (0, GIB)
    assert answer["reserved_bytes_without_limit"] == GIB


def test_a_fraction_is_of_all_that_torch_sees_of_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, ["alloc", 0, 2 * GIB, 0])
    half = ["--card", "4GiB", "--allocator", "per_process_memory_fraction:0.5"]
    assert forecast("--snapshot", path, *half, capsys=capsys)["fits"]


def test_a_run_that_does_not_fit_is_an_answer_that_says_where_and_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, ["alloc", 0, GIB, 0], ["alloc", 1, GIB, 0])
    answer, context = told("--snapshot", path, "--card", "2GiB", capsys=capsys)
    assert answer == (
        "The run does not fit: event 1 of 2 asks for 1.00 GiB that there is not. Without an end it takes 2.00 GiB, of "
        "1.22 GiB that 2GiB leaves."
    )
    assert context.startswith("Of what torch sees of a card a process keeps 300 MiB to 800 MiB for itself")


def test_a_run_that_fits_with_retries_says_how_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, ["alloc", 0, 500 * MIB, 0], ["free", 0], ["alloc", 1, 600 * MIB, 0])
    answer = told("--snapshot", path, "--card", "1800MiB", capsys=capsys)[0]
    assert answer.startswith("The run fits with 1 retry: 600 MiB at its peak")
    row = forecast("--snapshot", path, "--card", "1800MiB", capsys=capsys)
    assert (row["num_retries"], row["fits"]) == (1, True)


def test_settings_are_compared_in_a_table_under_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [300, 310, 320]
    events = [one for i, size in enumerate(sizes) for one in (["alloc", i, size * MIB, 0], ["free", i])]
    path = written(tmp_path, *events)
    arguments = ["--snapshot", path, "--allocator", "native", "--allocator", "expandable-segments,max_split_size_mb:64"]
    lines = told(*arguments, capsys=capsys)
    assert lines[0] == (
        "The run takes least with expandable-segments: 320 MiB at its peak, 0.0 % above the 320 MiB that tensors take."
    )
    assert [line.split()[0] for line in lines if line[:3] in ("nat", "exp", "max")] == [
        "native",
        "expandable-segments",
        "max_split_size_mb:64",
    ]
    answer = forecast(*arguments, capsys=capsys)
    assert [row["allocator"] for row in answer["replays"]] == ["native", "expandable-segments", "max_split_size_mb:64"]
    assert [row["peak_reserved_bytes"] // MIB for row in answer["replays"]] == [930, 320, 930]
    assert {key: answer[key] for key in answer["replays"][0]} == answer["replays"][0]
    lines = told(*arguments, "--card", "1700MiB,2GiB,1GiB", capsys=capsys)
    assert lines[0].startswith("The run fits 1700MiB with native (1 retry), 1700MiB with expandable-segments, ")


def test_a_card_of_ones_own_is_taken_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cards.toml").write_text('[[card]]\nname = "mine"\nmemory = "8GiB"\ncontext = "1GiB"\n')
    answer = forecast("--snapshot", LINEAR, "--cards", tmp_path / "cards.toml", "--card", "mine", capsys=capsys)
    assert (answer["card"], answer["capacity_bytes"]) == ("mine", 7 * GIB)


def test_what_a_reader_should_know_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(
        tmp_path,
        ["free", 77],
        ["alloc", 0, 30 * MIB, 0],
        ["segment_free", 900 * MIB, 2 * MIB],
        live_at_start=[[500, 100, None]],
        peak_reserved_bytes=99 * MIB,
    )
    told_notes = " ".join(
        forecast(
            "--snapshot",
            path,
            "--allocator",
            "native,garbage_collection_threshold:0.8",
            "--card",
            "4GiB",
            capsys=capsys,
        )["notes"]
    )
    for part in (
        "1 block that were alive, laid out afresh",
        "takes 32.0 MiB where 99.0 MiB were recorded",
        "1 event of blocks that were never recorded",
        "gave its cache back 1 time, by itself",
        "torch collects garbage only below a limit",
    ):
        assert part in told_notes


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "--widths: the sizes of the images are needed, or the recording of a run"),
        (("--snapshot", "none"), "--snapshot none: cannot be read"),
        (("--snapshot", ROOT / "README.md"), "it is no snapshot of torch"),
        (("--snapshot", LINEAR, "--card", "h201"), "--card h201: known cards are"),
        (("--snapshot", LINEAR, "--card", "400MiB"), "--card 400MiB: a process takes up to 800 MiB for itself"),
        (("--snapshot", LINEAR, "--card", "l4,"), "--card 'l4,': an entry of the comma list is empty"),
        (("--snapshot", LINEAR, "--allocator", "arena"), "--allocator arena: must be one of"),
        (("--snapshot", LINEAR, "--allocator", ""), "--allocator '': must be one of"),
        (("--snapshot", LINEAR, "--cards", "none.toml"), "--cards none.toml: cannot be read"),
        (("--snapshot", LINEAR, "--device-index", "x"), "--device-index x"),
    ],
)
def test_what_cannot_be_forecast_is_refused_in_one_line(
    arguments: tuple[object, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(*arguments, capsys=capsys)
