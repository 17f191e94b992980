from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import record_factory as factory

from vnbench.errors import InputError
from vnbench.output.words.provenance import note_on_peaks, origin_of, provenance
from vnbench.records.record import TrialRecord


def on(record: TrialRecord, **facts: Any) -> TrialRecord:
    return replace(record, environment={**record.environment, **facts})


def test_times_of_machines_that_differ_in_speed_are_not_shown_together() -> None:
    old, one, two = (factory.measured_training_record(factory.training_spec(), replicate=number) for number in range(3))
    records = [old, on(one, num_threads=1, num_cpus=2), on(two, num_threads=2, num_cpus=2)]
    with pytest.raises(InputError, match="num_threads 1 and 2"):
        provenance(records)
    assert provenance(records[:2]).device_name == provenance([old]).device_name, "what is not told is not compared"


def test_memory_does_not_depend_on_the_speed_of_its_machine() -> None:
    one, two = (factory.measured_memory_record(factory.training_spec(), replicate=number) for number in range(2))
    assert provenance([on(one, num_threads=1), on(two, num_threads=2)]).dates


def test_forecasts_are_of_their_card_and_never_pass_for_measurements() -> None:
    forecast = provenance([factory.forecast_record()])
    assert forecast.device_name == "H200 (forecast)"
    assert forecast.planned_from == "planned from forecasts: nothing was measured"
    measured = provenance([factory.measured_training_record(factory.training_spec())])
    assert measured.planned_from == "planned from measured trials"
    with pytest.raises(InputError, match="one device"):
        provenance([factory.forecast_record(), factory.forecast_record(factory.forecast_spec(card="L4"))])


def test_peaks_that_older_revisions_counted_too_high_are_named_with_their_revision() -> None:
    record = factory.measured_memory_record(factory.training_spec(device="cpu"))
    assert record.memory is not None
    assert note_on_peaks([record]) == ()
    old = on(replace(record, memory=replace(record.memory, instrument="traced")), revision="99fdd02f61bf")
    (note,) = note_on_peaks([record, old])
    assert "of revision 99fdd02f61bf, whose count also held the gradients of the step before" in note


def test_a_forecast_for_the_measured_card_stands_beside_its_trials_and_one_for_another_does_not() -> None:
    measured = factory.measured_training_record(factory.training_spec(device="cuda", model="veernet"))
    forecast = replace(factory.forecast_record(), started_at="2026-02-01T10:00:00+00:00")
    both = provenance([forecast, measured])
    alone = provenance([measured])
    assert both == replace(alone, has_forecasts=True)
    assert both.planned_from == "planned from measured trials and forecasts"
    with pytest.raises(InputError, match="one device"):
        provenance([measured, factory.forecast_record(factory.forecast_spec(card="L4"))])


def test_forecasts_alone_may_be_for_several_cards() -> None:
    cards = [factory.forecast_record(factory.forecast_spec(card=card)) for card in ("H200", "L4", "24GiB")]
    assert origin_of(cards).device_name == "H200, L4 and 24GiB (forecast)"
    assert origin_of(cards[:2]).device_name == "H200 and L4 (forecast)"
    assert origin_of(cards[:1]) == provenance(cards[:1])
