from __future__ import annotations

import dataclasses

import pytest
import record_factory as factory
from matplotlib.patches import Rectangle

from vnbench.output.plots.forecast import forecast_figure
from vnbench.output.plots.style import HATCH
from vnbench.output.words.provenance import origin_of, provenance
from vnbench.records.record import TrialRecord


def drawn(*records: TrialRecord) -> list[list[Rectangle]]:
    """Return the hatched bars of both panels, from the top."""
    figure = forecast_figure(records, origin=provenance(records))
    assert figure is not None
    return [
        [bar for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_hatch() == HATCH] for axes in figure.axes
    ]


def test_what_is_not_known_is_hatched_from_the_lower_to_the_upper_end() -> None:
    (memory,), (time,) = drawn(factory.forecast_record())
    pixels = 640 * 12_800
    assert memory.get_x() * factory.GIB == pytest.approx(600 * pixels + factory.GIB // 2)
    assert memory.get_width() * factory.GIB == pytest.approx(120 * pixels)
    # Milliseconds per padded Mpx: 4 to 15 ns a pixel.
    assert (time.get_x(), time.get_width()) == (pytest.approx(4.0), pytest.approx(11.0))


def test_each_setting_is_shown_at_its_largest_batch_that_fits() -> None:
    records = [
        factory.forecast_record(factory.forecast_spec(micro_batch_size=size), verdict=verdict)
        for size, verdict in ((1, "fits"), (4, "fits"), (16, "does not fit"))
    ]
    figure = forecast_figure(records, origin=provenance(records))
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["batch 4"]


def test_a_card_without_times_has_its_memory_alone() -> None:
    record = factory.forecast_record()
    assert record.card is not None
    untimed = tuple(dataclasses.replace(one, step_time_s=None, reducing_s=None) for one in record.card.canvases)
    memory, times = drawn(dataclasses.replace(record, card=dataclasses.replace(record.card, canvases=untimed)))
    assert (len(memory), len(times)) == (1, 0)


def test_without_forecasts_there_is_no_figure() -> None:
    record = factory.measured_training_record(factory.training_spec())
    assert forecast_figure([record], origin=provenance([record])) is None


def test_several_cards_stand_side_by_side_with_colours_hatches_and_labels_of_their_own() -> None:
    records = [
        factory.forecast_record(factory.forecast_spec(card=card, checkpointing=checkpointing), verdict=verdict)
        for checkpointing in ("none", "stages")
        for card, verdict in (("H200", "fits"), ("L4", "tight"), ("24GiB", "does not fit"))
    ]
    figure = forecast_figure(records, origin=origin_of(records))
    assert figure is not None
    memory = figure.axes[0]
    labels = [label.get_text() for label in memory.get_yticklabels()]
    assert labels == 2 * ["H200, batch 1", "L4, batch 1: tight", "24GiB, batch 1: does not fit"]
    headings = [text.get_text() for text in memory.texts]
    assert headings == ["no checkpointing", "checkpointing stages"]
    bars = [bar for bar in memory.patches if isinstance(bar, Rectangle) and bar.get_hatch()]
    looks = [(bar.get_edgecolor(), bar.get_hatch()) for bar in bars]
    assert looks[:3] == looks[3:]
    assert len({colour for colour, _ in looks}) == len({hatch for _, hatch in looks}) == 3


def test_settings_that_there_is_no_room_for_are_counted() -> None:
    settings = [
        {"precision": precision, "optimizer": loop, "checkpointing": checkpointing}
        for precision in ("fp32", "tf32", "bf16", "fp16")
        for loop in ("fused", "foreach")
        for checkpointing in ("none", "stages")
    ]
    records = [
        factory.forecast_record(factory.forecast_spec(card=card, **levers))
        for levers in settings
        for card in ("H200", "L4")
    ]
    figure = forecast_figure(records, origin=origin_of(records))
    assert figure is not None
    assert len(figure.axes[0].get_yticklabels()) == 24
    assert any("Not drawn: 4 more settings." in text.get_text() for text in figure.texts)
