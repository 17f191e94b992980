"""Watching on CUDA: under a stand-in that shows which branch runs, and on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import stand_in_cuda
import torch

from vnbench.loops.observing.keys import RunKeys, facts_of
from vnbench.loops.observing.own import observe
from vnbench.loops.observing.run import ObservedRun
from vnbench.records.record import TrialRecord

CUDA = torch.device("cuda")


def record_of(out: Path) -> TrialRecord:
    (line,) = out.read_bytes().splitlines()
    return TrialRecord.from_json(line)


def test_times_are_those_of_events_and_memory_that_of_the_allocator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_cuda.install(monkeypatch)
    monkeypatch.setattr("vnbench.trial.instruments.environment.gpu_settings", lambda uuid: {})
    waits: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    keys = RunKeys(
        model="train.py:Net",
        model_id="0123456789ab",
        device=CUDA,
        precision="bf16",
        loader=facts_of([]),
        loop="own",
        ranks=1,
        num_warm_up_steps=0,
    )
    run = ObservedRun(tmp_path / "run.jsonl", keys=keys, sizes="canvas", framework=None)
    run.begin_epoch(0)
    images_BCHW = torch.zeros(2, 1, 32, 64)
    for step in range(100):
        run.fetched(images_BCHW)
        run.clock.before_backward()
        run.clock.after_backward()
        run.end_pass(has_stepped=True, loss=torch.tensor(float(step)))
        assert not waits, "nothing waits for the device within an epoch"
    run.close()
    assert len(waits) == 1
    record = record_of(tmp_path / "run.jsonl")
    assert record.memory is not None
    assert record.memory.peak_reserved_bytes == stand_in_cuda.NUM_BYTES
    assert record.steps is not None
    assert record.steps["loss"] == tuple(map(float, range(100)))
    for name in ("step_time_s", "data_wait_s", "forward_s", "backward_s", "optimizer_s"):
        assert all(seconds is not None and seconds >= 0 for seconds in record.steps[name])


@pytest.mark.gpu
@pytest.mark.processes
def test_a_loop_on_a_gpu_is_watched_without_waiting_for_it(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.Conv2d(32, 2, 3, padding=1)).to(CUDA)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images = [torch.randn(2, 1, 640, 6_400 - 320 * (number % 3), device=CUDA) for number in range(30)]

    def forbidding(batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield batches, and let everything that waits for the device meanwhile be an error."""
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield from batches
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def train(take: Any) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for image in take(forbidding(images)):
            loss = network(image).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    train(iter)
    with observe(network, optimizer, out=tmp_path / "run.jsonl", sizes="canvas", warm_up_steps=2) as run:
        whole_s = train(run.epoch)
    record = record_of(tmp_path / "run.jsonl")
    assert record.status == "ok"
    assert record.steps is not None
    assert sum(record.steps["step_time_s"]) <= 1.001 * whole_s
    assert sum(record.steps["step_time_s"]) >= 0.8 * whole_s
    assert None not in record.steps["backward_s"]
    assert record.memory is not None
    assert record.memory.peak_reserved_bytes
    assert record.telemetry is not None
    assert record.spec.device == "cuda"
