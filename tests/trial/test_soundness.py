from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from record_factory import record_of, training_spec

from vnbench.records.readings import MemoryReading, Stop
from vnbench.records.record import WARNING_CODES, TrialRecord, TrialWarning
from vnbench.trial.checks.soundness import memory_warnings
from vnbench.trial.instruments.memory import process_memory
from vnbench.trial.instruments.timing import PhaseTimes, StepTimer, WallTimer
from vnbench.trial.measuring.blocks import BlockLog, StepShape
from vnbench.trial.step.optimizer_step import StepResult

SHAPE = StepShape(
    num_examples=1, num_micro_batches=1, valid_pixels=900, padded_pixels=1000, canvas_height=32, canvas_width=32
)


class ScriptedStep:
    """Steps that take what a script says: seconds of waiting for the loader, seconds of computing."""

    device = torch.device("cpu")

    def __init__(self, script: Sequence[tuple[float, float]], *, losses: Sequence[float] = ()) -> None:
        self.now = 100.0
        self._script = iter(script)
        self._losses = iter(losses)
        self._num_updates = 0

    def clock(self) -> float:
        return self.now

    def run_block(
        self, batches: Iterator[Any], *, num_examples: Sequence[int], timer: StepTimer
    ) -> tuple[list[StepResult], PhaseTimes, float]:
        timer.begin_block()
        results = [self.run(batches, num_examples=number, timer=timer) for number in num_examples]
        return results, *timer.end_block()

    def run(self, batches: Iterator[Any], *, num_examples: int, timer: StepTimer) -> StepResult:
        wait_s, compute_s = next(self._script)
        timer.begin_step()
        with timer.phase("data_wait"):
            self.now += wait_s
        with timer.phase("forward"):
            self.now += compute_s
        self._num_updates += 1
        return StepResult(
            loss=torch.tensor(next(self._losses, 0.5)), num_updates=torch.tensor(float(self._num_updates))
        )


def observed(
    script: Sequence[tuple[float, float]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    stop: Stop | None = None,
    shapes: Sequence[StepShape] | None = None,
    **kwargs: Any,
) -> TrialRecord:
    step = ScriptedStep(script, **kwargs)
    monkeypatch.setattr("vnbench.trial.measuring.blocks.make_timer", lambda device: WallTimer(clock=step.clock))
    log = BlockLog(step)  # type: ignore[arg-type]
    log.run(iter(()), [SHAPE], is_warm_up=True)
    log.run(iter(()), shapes or [SHAPE] * (len(script) - 1), is_warm_up=False)
    record = record_of(training_spec(), stop=stop)
    return log.observed(record, memory=process_memory(), is_per_canvas=False)


def warning(record: TrialRecord, code: str) -> TrialWarning:
    (found,) = (item for item in record.warnings if item.code == code)
    return found


QUIET = [(0.01, 1.0)] * 9


def test_a_quiet_trial_has_no_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    record = observed(QUIET, monkeypatch)
    assert record.warnings == ()
    assert record.steps is not None
    assert record.steps["block"] == (0,) + (1,) * 8
    assert record.steps["step_time_s"] == pytest.approx([1.01] * 9)


def test_a_planted_outlier_is_flagged_kept_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [(0.01, 1.0)] * 5 + [(0.01, 9.0)] + [(0.01, 1.0)] * 3
    record = observed(script, monkeypatch)
    assert record.steps is not None
    assert record.steps["is_outlier"] == (False,) * 5 + (True,) + (False,) * 3
    assert record.block is not None
    assert record.block.num_steps == 8
    assert record.block.wall_time_s == pytest.approx(8 * 1.01 + 8)
    assert warning(record, "outliers").message.startswith("1 of 8 measured steps is an outlier, with ")
    assert warning(record, "outliers").figures == pytest.approx({"num_steps": 1, "share_of_time": 9.01 / 16.08})


def of_canvases(*widths: int) -> list[StepShape]:
    return [replace(SHAPE, padded_pixels=32 * width, canvas_width=width) for width in widths]


def test_a_canvas_that_costs_more_per_pixel_is_no_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    # The widest canvas takes nine times as long per pixel as the others: once measured, and in two epochs.
    costs = [(0.01, 1.0)] * 5 + [(0.01, 90.0)]
    once, twice = of_canvases(32, 64, 96, 128, 160, 320), 2 * of_canvases(32, 64, 96, 128, 160, 320)
    assert observed([(0.01, 1.0), *costs], monkeypatch, shapes=once).warnings == ()
    assert observed([(0.01, 1.0), *costs, *costs], monkeypatch, shapes=twice).warnings == ()


def test_a_step_far_from_the_others_on_its_canvas_is_an_outlier(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = (32, 64, 96, 128)
    seconds = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 12.0]
    script = [(0.01, 1.0), *((0.01, one) for one in seconds)]
    record = observed(script, monkeypatch, shapes=of_canvases(*widths, *widths))
    assert record.steps is not None
    assert record.steps["is_outlier"] == (False,) * 8 + (True,)


def test_an_outlier_of_the_warm_up_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert observed([(0.01, 50.0), *QUIET], monkeypatch).warnings == ()


def test_a_slow_worker_shows_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    record = observed([(0.5, 1.0)] * 9, monkeypatch)
    found = warning(record, "data-wait")
    assert found.figures == pytest.approx({"share_of_time": 1 / 3})
    assert "--num-workers" in found.message


def test_a_clock_that_steps_backwards_leaves_nulls_and_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [(0.01, 1.0)] * 4 + [(0.01, -3600.0)] + [(0.01, 1.0)] * 4
    record = observed(script, monkeypatch)
    assert record.status == "ok"
    assert record.steps is not None
    assert record.steps["step_time_s"][4] is None
    assert record.steps["forward_s"][4] is None
    assert record.steps["step_time_s"][5] == pytest.approx(1.01)
    assert record.block is None
    assert warning(record, "clock-stepped").figures == {"num_steps": 1}
    assert TrialRecord.from_json(record.to_json()) == record


def test_a_cap_that_ended_a_noisy_trial_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(rule: Any, half_width: float) -> Stop:
        return Stop(
            rule=rule,
            noise_target=0.01,
            relative_half_width=half_width,
            num_steps=8,
            num_observations=8,
            measuring_s=8.0,
        )

    found = warning(observed(QUIET, monkeypatch, stop=stop("max-epochs", 0.12)), "noisy")
    assert found.figures == {"relative_half_width": 0.12}
    assert "--max-epochs" in found.message
    assert observed(QUIET, monkeypatch, stop=stop("max-epochs", 0.02)).warnings == ()
    assert observed(QUIET, monkeypatch, stop=stop("noise-target", 0.12)).warnings == ()


def test_few_steps_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warning(observed(QUIET[:4], monkeypatch), "few-steps").figures == {"num_steps": 3}


def test_a_full_allocator_is_warned_of() -> None:
    reading = MemoryReading(
        instrument="cuda-caching-allocator",
        peak_allocated_bytes=1,
        peak_reserved_bytes=1,
        num_alloc_retries=2,
        process_peak_rss_bytes=None,
        capacity_bytes=1,
    )
    (found,) = memory_warnings(reading)
    assert (found.code, found.figures) == ("alloc-retries", {"num_retries": 2})


def test_a_loss_that_is_no_number_makes_the_trial_wrong_and_stays_null(monkeypatch: pytest.MonkeyPatch) -> None:
    record = observed(QUIET, monkeypatch, losses=[0.5] * 5 + [float("nan")])
    assert record.status == "wrong"
    assert record.steps is not None
    assert record.steps["loss"][5] is None


def test_every_warning_names_the_next_thing_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [observed(script, monkeypatch) for script in ([(0.5, 1.0)] * 3, [(0.01, 1.0)] * 8 + [(0.01, -9.0)])]
    seen = [item for record in records for item in record.warnings]
    assert len(seen) >= 3
    for item in seen:
        assert item.code in WARNING_CODES
        assert item.figures
        assert ";" in item.message or "try" in item.message
