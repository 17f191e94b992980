from __future__ import annotations

from pathlib import Path

import pytest

from vnbench.cli.app import run
from vnbench.errors import InputError
from vnbench.meant import closest
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import SAMPLER_NAMES
from vnbench.request.config import complete
from vnbench.request.options import ALL_OPTIONS
from vnbench.request.reading import read_request
from vnbench.sweep.design import make_design

NETWORK = "def block(channels):\n    pass\n\ndef build(*, num_classes):\n    pass\n"


@pytest.mark.parametrize(
    ("option", "text", "remedy"),
    [
        ("memory-limit", "2GB", "write 2GiB"),
        ("memory-limit", "512mb", "write 512MiB"),
        ("memory-limit", "2,5 GiB", "write 2.5GiB"),
        ("memory-limit", "8", "write 8GiB"),
        ("memory-limit", "much", "write 24GiB"),
        ("time-budget", "5min", "write 5m"),
        ("time-budget", "12 hours", "write 12h"),
        ("time-budget", "1h30m", "write 90m"),
        ("time-budget", "500ms", "write 90s, 10m or 12h"),
        ("noise-target", "5", "write 5%"),
        ("noise-target", "1,5 %", "write 1.5%"),
        ("noise-target", "200%", "write 1% or 0.01"),
        ("widths", "3200-12800", "write 3200:12800"),
        ("widths", "3200 to 12800 px", "write 3200:12800"),
        ("widths", "wide", "write START:STOP, as 3200:12800"),
        ("batch-size", "1 2 4", "write 1,2,4"),
        ("batch-size", "1;2", "write 1,2"),
        ("batch-size", "few", "write 1,2,4"),
        ("examples", "15.5k", "write 15k"),
        ("examples", "15K", "write 15k"),
        ("examples", "15 000", "write 15000"),
        ("examples", "many", "write 1"),
        ("pixel-budget", "16 MP", "write 16Mpx"),
        ("pixel-budget", "640*12800", "write 640x12800"),
        ("precision", "BF16", "write bf16"),
        ("precision", "double", "write one of these"),
        ("sampler", "pixel_budget", "write pixel-budget"),
        ("task", "Binary", "write binary"),
        ("shapes", "anny", "write any"),
        ("micro-batch-size", "SAME", "write same"),
        ("snapshot-interval", "bets", "write best"),
        ("model", "VeerNet-Tiny", "write veernet-tiny"),
        ("model", "unet", "write one of these"),
    ],
)
def test_the_remedy_is_what_was_most_likely_meant(option: str, text: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        ALL_OPTIONS[option].parse(text, f"--{option}")
    assert caught.value.remedy == remedy
    for written in remedy.removeprefix("write ").split(" or ")[:1]:
        if written[0].isdigit() and " " not in written:
            ALL_OPTIONS[option].parse(written, f"--{option}")


def test_a_word_that_is_like_no_other_means_none() -> None:
    assert closest("Bucketd", SAMPLER_NAMES) == "bucketed"
    assert closest("x", PRECISIONS) is None


@pytest.mark.parametrize(
    ("name", "remedy"), [("", "build"), (":bulid", "build"), (":block_", "build"), (":something", "build")]
)
def test_of_a_file_the_function_that_makes_a_network_is_meant(name: str, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "unet.py"
    path.write_text(NETWORK)
    with pytest.raises(InputError) as caught:
        ALL_OPTIONS["model"].parse(f"{path}{name}", "--model")
    assert "it defines block, build" in str(caught.value)
    assert caught.value.remedy == f"write {path}:{remedy}"


def test_a_file_of_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "unet.py").write_text(NETWORK)
    own = ALL_OPTIONS["model"].parse("~/unet.py:build", "--model")
    assert own.name == f"{tmp_path}/unet.py:build"
    (tmp_path / "sweep.toml").write_text('sizes = "~/sizes.csv"\n')
    request = read_request({}, config_path=tmp_path / "sweep.toml")
    assert request.values["sizes"] == tmp_path / "sizes.csv"


def test_causes_that_cells_share_are_told_once() -> None:
    request = read_request({"widths": "3200:12800", "micro-batch-size": "3", "batch-size": "1,2"}, config_path=None)
    config = complete(request, environment={"device_type": "cpu", "num_cpus": 8})
    sizes = {"train_sizes_N2": [[480, 3200]] * 8, "worst_case": (640, 12_800), "canvas_sizes": ()}
    with pytest.raises(InputError) as caught:
        make_design(config, corpus_id="0" * 12, **sizes)  # type: ignore[arg-type]
    told = str(caught.value)
    assert told.startswith("--micro-batch-size, --batch-size: no combination of the values can be measured (")
    assert told.count("does not divide a batch of 1") == told.count("does not divide a batch of 2") == 1


def test_an_option_that_is_suggested_is_one_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate", "a", "b", "--kind", "memory"]) == 2
    assert "write --kind" not in capsys.readouterr().err
    assert run(["gate", "a", "b", "--tolerance_time", "1%"]) == 2
    assert "write --tolerance-time" in capsys.readouterr().err
