from __future__ import annotations

import dataclasses
import math

import pytest
import record_factory as factory

from vnbench.analysis.findings import Findings
from vnbench.analysis.models.fit import FamilyFit
from vnbench.analysis.planning.worst_case_memory import worst_case_memory
from vnbench.records.readings import CardForecast
from vnbench.records.record import TrialRecord


def family_of(record: TrialRecord) -> FamilyFit:
    (family,) = Findings([record]).families
    return family


def test_a_forecast_family_has_the_central_times_without_errors_and_its_ends_beside() -> None:
    family = family_of(factory.forecast_record())
    assert (family.source, family.is_rough) == ("forecast", False)
    assert family.fit.model.time_s(2e6) == pytest.approx(5e-9 * 2e6)
    assert family.fit.forecast([2e6, 4e6]).se is None
    assert family.forecast is not None
    assert family.forecast.low.time_s(2e6) == pytest.approx(4e-9 * 2e6)
    assert family.forecast.high.time_s(2e6) == pytest.approx(15e-9 * 2e6)


def test_a_forecast_of_one_canvas_grows_with_the_pixels() -> None:
    spec = factory.forecast_spec(smallest_height=640, smallest_width=12_800)
    assert family_of(factory.forecast_record(spec)).fit.model.coefficients == (0.0, pytest.approx(5e-9))


def test_a_measured_family_is_never_replaced_by_its_forecast() -> None:
    forecast = factory.forecast_record()
    spec = factory.compute_spec(device="cuda", model="veernet", precision="bf16", norm_precision="input")
    measured = factory.measured_compute_record(spec)
    assert measured.spec.family == forecast.spec.family
    (family,) = Findings([forecast, measured]).families
    assert family.source == "compute"


def test_forecasts_are_no_measured_fits() -> None:
    assert Findings([factory.forecast_record()]).fits == ()


def test_accumulated_steps_and_cards_without_times_make_no_family() -> None:
    accumulated = factory.forecast_record(factory.forecast_spec(batch_size=4, micro_batch_size=1))
    record = factory.forecast_record()
    assert record.card is not None
    untimed = tuple(dataclasses.replace(one, step_time_s=None, reducing_s=None) for one in record.card.canvases)
    timeless = dataclasses.replace(record, card=dataclasses.replace(record.card, canvases=untimed))
    assert Findings([accumulated, timeless]).families == ()


@pytest.mark.parametrize(
    ("memory_gib", "verdict"), [(None, "fits"), (100, "fits"), (6, "tight"), (5, "does not fit"), (4, "does not fit")]
)
def test_memory_that_was_forecast_fits_by_its_upper_end_and_not_by_its_lower_one(
    memory_gib: int | None, verdict: str
) -> None:
    """One example takes 5.08 to 5.99 GiB."""
    memory = worst_case_memory(family_of(factory.forecast_record()), worst_case=(640, 12_800), certificates=())
    assert memory.verdict(None if memory_gib is None else memory_gib * factory.GIB) == verdict


def test_the_verdict_on_the_forecast_card_is_that_of_the_replay() -> None:
    family = family_of(factory.forecast_record(verdict="tight"))
    assert worst_case_memory(family, worst_case=(640, 12_800), certificates=()).verdict(None) == "tight"


def test_a_larger_worst_case_than_the_forecast_one_is_unknown() -> None:
    memory = worst_case_memory(family_of(factory.forecast_record()), worst_case=(640, 16_000), certificates=())
    assert (memory.need_bytes, memory.verdict(None)) == (None, "unknown")


def test_a_forecast_survives_its_json() -> None:
    record = factory.forecast_record()
    again = TrialRecord.from_json(record.to_json())
    assert again == record
    assert isinstance(again.card, CardForecast)
    assert math.isclose(again.card.worst_case.step_time_s.central, 5e-9 * 640 * 12_800)  # type: ignore[union-attr]
