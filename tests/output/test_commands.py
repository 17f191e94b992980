from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import record_factory as factory
from suggestions import commands_in, pasted, pasted_sweep

from vnbench.analysis.findings import Findings
from vnbench.output.plots.figures import Subject, draw_figures
from vnbench.output.words.commands import (
    images_told,
    options_of_records,
    options_of_specs,
    profile_command,
    same_command,
    search_command,
    sizes_of_records,
    sweep_command,
    with_command,
    with_own_images,
)
from vnbench.units import PixelRange


def test_a_command_from_records_has_their_sizes_network_device_and_precision() -> None:
    training = factory.training_spec(task="binary")
    steps = factory.steps_of([1.0, 2.0]) | {"canvas_height": (480, 512), "canvas_width": (3200, 9984)}
    records = [factory.record_of(training, steps=steps), factory.measured_memory_record(training)]
    assert sweep_command(options_of_records(records), {"kind": "compute"}) == (
        "vnbench sweep --widths 3200:12800 --heights 480:640 --task binary --model veernet-tiny --device cpu "
        "--precision fp32 --kind compute"
    )


@pytest.mark.parametrize(
    "images", [{"images": "my scans"}, {"sizes": "sizes.csv"}, {"widths": "64:160", "size-law": "log-uniform"}]
)
def test_a_command_from_records_names_the_images_as_their_sweep_did(images: dict[str, str]) -> None:
    steps = factory.steps_of([1.0, 2.0]) | {"canvas_height": (480, 512), "canvas_width": (3200, 9984)}
    records = [
        replace(factory.record_of(factory.training_spec(), steps=steps), images=images),
        factory.measured_memory_record(factory.training_spec()),  # of an earlier version
    ]
    told, _, command = with_command(records, {"kind": "compute"}).rpartition(": ")
    assert told == "with"
    request = pasted_sweep(command)
    assert {
        name: request.texts[name] for name in ("widths", "heights", "sizes", "images") if name in request.texts
    } == {name: text for name, text in images.items() if name != "size-law"}
    assert with_own_images([command], records) == (command,)
    profiled = pasted(profile_command(options_of_records(records), sizes_of_records(records), out="profiles"))
    assert profiled["widths"] == "3200:12800"


def test_a_command_from_records_says_what_the_numbers_in_their_masks_mean() -> None:
    images = {"images": "my scans", "mask-values": "0,100,200,250", "ignore-value": "255"}
    record = replace(factory.measured_compute_record(factory.compute_spec(classes=4)), images=images)
    request = pasted_sweep(sweep_command(options_of_records([record]), {"kind": "loader"}))
    assert {name: request.texts[name] for name in images} == images
    assert request.values["classes"] == 4


def test_where_records_do_not_name_their_images_a_command_says_how_to_name_ones_own() -> None:
    records = [factory.measured_compute_record(factory.compute_spec())]
    command = with_command(records, {"kind": "compute"})
    assert command.startswith("(for images of your own: --images DIR in place of --widths and --heights) with: vnbench")
    assert len(with_own_images([command], records)) == 2
    assert with_own_images(["nothing to run"], records) == ("nothing to run",)


def test_a_command_from_forecasts_has_the_sizes_that_were_forecast_and_needs_no_images() -> None:
    spec = factory.forecast_spec(smallest_height=48, smallest_width=320, worst_case_height=64, worst_case_width=1280)
    records = [factory.forecast_record(spec)]
    command = with_command(records, {})
    assert command.startswith("with: vnbench sweep --widths 320:1280 --heights 48:64 ")
    assert with_own_images([command], records) == (command,)
    assert len(with_own_images([command], [*records, factory.measured_compute_record(factory.compute_spec())])) == 2


def test_the_precision_is_that_of_most_trials_and_groups_are_named_where_they_are_not_the_usual_ones() -> None:
    specs = [factory.compute_spec(precision=name, norm_groups="16") for name in ("fp32", "bf16", "bf16")]
    options = options_of_specs(specs)
    assert options["precision"] == "bf16"
    assert options["norm-groups"] == "16"
    assert pasted_sweep(sweep_command(options, {})).values["widths"] == PixelRange(start=3200, stop=12_800)


def test_images_are_told_by_their_sizes_and_by_where_they_lie_if_that_is_known() -> None:
    record = factory.measured_compute_record(factory.compute_spec())
    assert images_told([record]) == "images of 480 to 640 x 3,200 to 12,800 px"
    assert images_told([replace(record, images={"images": "my scans"})]).endswith(" px from my scans")
    assert images_told([]) == "images"


def test_where_no_record_tells_the_sizes_the_published_ones_stand() -> None:
    assert sweep_command(options_of_records([]), {"kind": "memory"}) == (
        "vnbench sweep --widths 3200:12800 --kind memory"
    )
    request = pasted_sweep(sweep_command(options_of_records([factory.record_of(factory.loader_spec())]), {}))
    assert request.values["widths"] == PixelRange(start=3200, stop=12_800)


def test_a_command_of_another_sweep_keeps_what_it_is_of_and_not_what_it_measured() -> None:
    given = {"images": "my images", "precision": "fp32", "kind": "memory", "design": "full", "retry": "oom"}
    command = sweep_command(given | {"find-max-batch": "yes", "out": "r.jsonl"}, {"num-workers": "0,2,4"})
    assert command == "vnbench sweep --images 'my images' --precision fp32 --out r.jsonl --num-workers 0,2,4"
    assert pasted_sweep(command).values["num-workers"] == (0, 2, 4)


def test_the_same_command_changes_only_what_is_asked() -> None:
    given = {"widths": "64:160", "replicates": "1", "kind": "training"}
    assert same_command(given, {"replicates": "3"}) == "vnbench sweep --widths 64:160 --replicates 3 --kind training"
    assert same_command({"widths": "64:160", "find-max-batch": "yes"}, {}) == (
        "vnbench sweep --widths 64:160 --find-max-batch"
    )


def test_a_profile_takes_the_options_that_it_has() -> None:
    options = options_of_records([factory.measured_compute_record(factory.compute_spec(norm_groups="16"))])
    values = pasted(profile_command(options, {}, out="profiles"))
    assert values["widths"] == "3200:12800"
    assert values["out"] == Path("profiles")


KINDS = {
    "effects": ("memory", "training"),
    "peak memory": ("memory",),
    "compute": ("compute",),
    "fit": ("compute",),
    "supply": ("compute", "loader"),
}
"""Kinds of trials that figures lack, but for those of training."""


@pytest.mark.parametrize("options", [None, {"corpus": "images", "task": "binary", "device": "cpu", "kind": "memory"}])
def test_what_would_draw_a_missing_figure_can_be_pasted(options: dict[str, str] | None, tmp_path: Path) -> None:
    left_out = draw_figures(Subject(found=Findings([])), tmp_path, options=options).left_out
    commands = commands_in(left_out)
    assert len(commands) == len(left_out)
    for line, command in zip(left_out, commands, strict=True):
        request = pasted_sweep(command)
        assert request.values["kind"] == KINDS.get(line.partition(":")[0], ("training",))
        assert ("corpus" in request.values) is (options is not None)


def test_a_search_of_the_same_images_leaves_out_what_it_finds_by_itself() -> None:
    given = {"images": "mine", "batch-size": "1,2", "replicates": "3", "precision": "bf16", "time-budget": "4m"}
    assert search_command(given) == "vnbench sweep --images mine --precision bf16 --find-max-batch"
    assert pasted_sweep(search_command({"widths": "64:160", "memory-by": "step"})).values["find-max-batch"]
