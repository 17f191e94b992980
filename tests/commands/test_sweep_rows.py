import json

import pytest
import record_factory as factory

from vnbench.commands.sweep.report import training_rows


def test_each_training_configuration_stands_in_json_with_its_ratio_to_the_centre() -> None:
    records = factory.cuda_sweep()
    rows = training_rows(records)
    assert len(rows) == 17
    (centre,) = (row for row in rows if row["is_centre"])
    assert (centre["ratio"], centre["interval"], centre["num_processes"]) == (None, None, 3)
    timed = [row for row in rows if row["ratio"] is not None]
    assert len(timed) == 13
    for row in timed:
        low, high = row["interval"]
        assert low < row["ratio"] < high
        assert row["has_processes"]
        assert row["ratio"] == pytest.approx(row["valid_px_per_s"] / centre["valid_px_per_s"])
    assert {row["status"] for row in rows if row["ratio"] is None} == {"ok", "skipped"}
    assert json.dumps(rows)
