import dataclasses
import io
from collections.abc import Mapping, Sequence

import pytest
import record_factory as factory
from rich.console import Console

from vnbench.errors import InputError
from vnbench.output.tables.compute import compute_table
from vnbench.output.words.provenance import CPU_LABEL
from vnbench.records.record import TrialRecord, TrialWarning


def render(
    records: Sequence[TrialRecord],
    *,
    width: int = 100,
    price_per_hour: float | None = None,
    passes: Mapping[int, Sequence[int]] | None = None,
) -> str:
    table = compute_table(records, price_per_hour=price_per_hour, passes=passes)
    assert table is not None
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def canvas_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:1].isdigit() and " x " in line[:10]]


def epoch_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("epoch:")]


def test_records_without_compute_trials_have_no_table() -> None:
    assert compute_table(factory.cpu_sweep()) is None
    assert compute_table([]) is None


def test_every_configuration_has_a_block_with_a_line_per_canvas_largest_first() -> None:
    text = render(factory.compute_sweep())
    assert len(canvas_lines(text)) == 4 * 9
    assert canvas_lines(text)[0].startswith("640 x 12800")
    assert canvas_lines(text)[8].startswith("480 x 3200")
    for heading in ("micro-batch 1, fp32 (3 processes): ok", "micro-batch 4, bf16: ok"):
        assert heading in text.splitlines()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_table_fits_a_hundred_columns_and_columns_of_all_blocks_stand_together(device) -> None:
    text = render(factory.compute_sweep(device=device))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert len({len(line.rstrip()) for line in canvas_lines(text)}) == 1


def test_a_line_holds_the_figures_of_its_canvas() -> None:
    steps = factory.steps_of(
        [9.0, 1.0, 1.0],
        valid_pixels=[500_000] * 3,
        padded_pixels=[1_000_000] * 3,
        num_warm_up=1,
        num_examples=2,
    )
    canvas = {"height": 640, "width": 12_800, "first_seen_s": 9.0, "peak_allocated_bytes": None}
    reading = factory.CanvasReading(
        **canvas,
        peak_reserved_bytes=3 * factory.GIB,
        host_growth_bytes=7 * 2**20,
        flop_per_step=5 * 10**12,
        stop=factory.Stop(
            rule="max-steps",
            noise_target=0.01,
            relative_half_width=0.0,
            num_steps=2,
            num_observations=2,
            measuring_s=2.0,
        ),
    )
    spec = factory.compute_spec(micro_batch_size=2)
    (line,) = canvas_lines(render([factory.record_of(spec, steps=steps, canvases=(reading,))], width=120))
    assert line.split() == [
        *("640", "x", "12800", "1.00", "1000", "±", "0", "300", "600", "2.00"),
        *("0.500", "1.00", "2.00", "5.00", "9000", "x", "9.0", "3.00", "7", "steps"),
    ]


def test_columns_that_the_device_does_not_tell_are_left_out() -> None:
    cuda, cpu = (render(factory.compute_sweep(device=device)) for device in ("cuda", "cpu"))
    assert "TFLOP" in cuda
    assert "TFLOP" not in cpu
    unseen = [
        dataclasses.replace(
            record, canvases=tuple(dataclasses.replace(one, peak_allocated_bytes=None) for one in record.canvases)
        )
        for record in factory.compute_sweep(device="cpu")
    ]
    assert "peak" in cpu
    assert "peak" not in render(unseen)
    assert "memory of tensors" not in render(unseen)
    assert "GFLOP" in cpu
    assert CPU_LABEL in cpu
    assert CPU_LABEL not in cuda


def test_the_law_of_the_peaks_stands_below_with_its_error_at_a_canvas_left_out() -> None:
    text = " ".join(render(factory.compute_sweep(device="cpu")).split())
    # The peaks of these records are 378 bytes per padded pixel of the micro-batch.
    assert "378 bytes per padded pixel" in text
    assert "without a canvas it is off there by" in text


def test_notes_say_what_the_intervals_cover_and_where_they_were_measured() -> None:
    text = " ".join(render(factory.compute_sweep()).split())
    assert "Intervals: 95 %, the spread between processes included (" in text
    assert "from 3 repeated trials of 1 configuration)" in text
    assert "NVIDIA H200, torch 2.13.0+cu130, 2026-01-05, 6 compute trials of 4 configurations" in text
    alone = " ".join(render(factory.compute_sweep()[:1]).split())
    assert "of one process" in alone


def test_a_spread_of_training_trials_is_said_to_be_borrowed() -> None:
    text = " ".join(render([*factory.cuda_sweep(), *factory.compute_sweep()[:2]]).split())
    assert "from 3 repeated trials of 1 configuration of training trials)" in text


def test_drift_is_told_where_no_training_table_tells_it() -> None:
    assert "drift:" in render(factory.compute_sweep())
    assert "drift:" not in render([*factory.cuda_sweep(), *factory.compute_sweep()])


def test_an_epoch_is_priced_through_the_measured_canvases() -> None:
    passes = {1: [640 * 12_800] * 1000, 4: [4 * 640 * 12_800] * 250}
    text = render(factory.compute_sweep(), price_per_hour=3.6, passes=passes, width=200)
    lines = epoch_lines(text)
    assert len(lines) == 4
    assert lines[0].startswith("epoch: micro-batch 1, fp32: ")
    # A thousand steps of 70 ms, at 3.6 an hour: a thousandth of a unit per second.
    assert "70 ± 5 s of computing, cost 0.070 ± 0.005, 0.0113 ± 0.0008 kWh in 1,000 passes" in lines[0]


def test_without_a_price_an_epoch_has_its_time_alone() -> None:
    (line, *_) = epoch_lines(render(factory.compute_sweep(), passes={1: [640 * 12_800]}))
    assert "of computing in 1 pass" in line
    assert "cost" not in line
    assert "kWh" not in line


def test_passes_that_no_canvas_covers_are_named_and_not_priced() -> None:
    records = factory.compute_sweep()[:1]
    (line,) = epoch_lines(render(records, passes={1: [8_000_000, 500_000, 600_000]}, width=200))
    assert "in 1 pass, without 2 of 3 passes (0.5 to 0.6 padded Mpx, measured 1.54 to 8.19)" in line
    (line,) = epoch_lines(render(records, passes={1: [500_000]}, width=200))
    assert line.endswith("not told, no canvas near 1 of 1 pass (0.5 padded Mpx, measured 1.54 to 8.19)")


def test_a_micro_batch_without_passes_has_no_epoch() -> None:
    assert len(epoch_lines(render(factory.compute_sweep(), passes={4: [4 * 640 * 12_800]}))) == 2
    assert epoch_lines(render(factory.compute_sweep())) == []


def test_failures_and_warnings_are_told_by_configuration() -> None:
    spec = factory.compute_spec()
    warning = TrialWarning(code="busy-cores", message="other programs used 40 % of the cores")
    records = [
        factory.measured_compute_record(spec, warnings=(warning,)),
        factory.record_of(factory.compute_spec(micro_batch_size=4), status="oom"),
    ]
    text = render(records, width=120)
    assert "micro-batch 1: ok !" in text.splitlines()
    assert "! micro-batch 1: other programs used 40 % of the cores (busy-cores)" in text
    assert "oom: micro-batch 4: made to end oom" in text


def test_a_sweep_without_one_good_compute_trial_tells_why() -> None:
    text = render([factory.record_of(factory.compute_spec(), status="oom")])
    assert "oom: micro-batch 1: made to end oom" in text
    assert canvas_lines(text) == []


def test_records_of_two_devices_are_refused() -> None:
    with pytest.raises(InputError, match="one device"):
        compute_table([*factory.compute_sweep(), *factory.compute_sweep(device="cpu")])


def test_what_a_framework_adds_stands_in_the_table_and_in_a_line_also_where_it_is_narrow() -> None:
    (record,) = factory.compute_sweep(device="cpu")[:1]
    spec = dataclasses.replace(record.spec, loop="fabric")
    canvases = tuple(
        dataclasses.replace(canvas, loop_pairs_s=((0.1, 0.1005),) * 5 + ((0.1, 0.10075), (0.1, 0.10025)))
        for canvas in record.canvases
    )
    text = render([dataclasses.replace(record, spec=spec, canvases=canvases)], width=80)
    assert all("0.50 (0.25 to 0.75)" in line for line in canvas_lines(text))
    told = " ".join(text.split())
    assert "over the own loop" in told
    assert (
        f"0.50 (0.50 to 0.50) ms per pass, less than 1 % of a step on every canvas (median of {7 * len(canvases)} pairs"
        in told
    )


def test_the_own_loop_has_no_column_of_what_it_adds() -> None:
    assert "over own" not in render(factory.compute_sweep(device="cpu"))
