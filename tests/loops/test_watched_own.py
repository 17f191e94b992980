from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import torch
from segmentation import SIZES_N2, Curves, collate, make_loader, make_network
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from vnbench.analysis.findings import Findings
from vnbench.errors import InputError
from vnbench.loops.observing.own import observe
from vnbench.records.record import TrialRecord
from vnbench.records.store import load_results

pytestmark = pytest.mark.filterwarnings("ignore")  # what frameworks warn about is their own


def sizes_of(batch: dict[str, Any]) -> Any:
    return batch["sizes"]


def loss_of(network: Any, batch: dict[str, Any]) -> torch.Tensor:
    return cross_entropy(network(batch["images"]), batch["masks"], ignore_index=255)


def made() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    network = make_network()
    return network, torch.optim.SGD(network.parameters(), lr=0.01)


def train(out: Path, *, num_epochs: int = 2, window: int = 1, loader: Any = None, **settings: Any) -> None:
    network, optimizer = made()
    loader = make_loader() if loader is None else loader
    with observe(network, optimizer, out=out, **{"sizes": sizes_of, "warm_up_steps": 2, **settings}) as run:
        for epoch in range(num_epochs):
            loader.batch_sampler.set_epoch(epoch)
            for number, batch in enumerate(run.epoch(loader), start=1):
                loss = loss_of(network, batch)
                loss.backward()
                run.note_loss(loss)
                if number % window == 0:
                    optimizer.step()
                    optimizer.zero_grad()


def records_of(out: Path) -> list[TrialRecord]:
    return [TrialRecord.from_json(line) for line in out.read_bytes().splitlines()]


def test_a_loop_by_hand_leaves_a_record_for_each_epoch(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(out)
    first, second = records_of(out)
    assert (first.attempt, second.attempt) == (0, 1)
    assert first.spec.loop == "own"
    assert first.spec.model.endswith(":Sequential")
    for one in (first, second):
        assert one.steps is not None
        assert sum(one.steps["valid_pixels"]) == SIZES_N2.prod(axis=1).sum()
        assert all(loss > 0 for loss in one.steps["loss"])
        parts = [one.steps[f"{name}_s"] for name in ("data_wait", "forward", "backward", "optimizer")]
        for total_s, *parts_s in zip(one.steps["step_time_s"], *parts, strict=True):
            assert sum(parts_s) == pytest.approx(total_s)


def test_passes_that_no_step_took_belong_to_the_first_step_of_the_next_epoch(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    train(out, window=4)
    first, second = records_of(out)
    assert first.steps is not None
    assert second.steps is not None
    assert first.steps["num_micro_batches"] == (4, 4)
    assert second.steps["num_micro_batches"] == (2 + 4, 4)
    assert first.observed is not None
    assert first.observed.num_passes == 4


def test_what_comes_between_passes_belongs_to_no_step(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    network, optimizer = made()
    paused_s = 0.0
    with observe(network, optimizer, out=out, sizes=sizes_of, warm_up_steps=0) as run:
        start_s = time.monotonic()
        for number, batch in enumerate(run.epoch(make_loader())):
            loss_of(network, batch).backward()
            optimizer.step()
            if number in (3, 5):
                with run.paused("validation" if number == 3 else "snapshot"), torch.no_grad():
                    before_s = time.monotonic()
                    loss_of(network, batch)
                    time.sleep(0.02)
                    paused_s += time.monotonic() - before_s
        whole_s = time.monotonic() - start_s
    (record,) = records_of(out)
    assert record.steps is not None
    assert sum(record.steps["step_time_s"]) <= whole_s - paused_s
    assert record.steps["is_after_validation"] == tuple(step == 4 for step in range(10))
    assert not any(record.steps["is_snapshot"])
    assert record.observed is not None
    assert record.observed.num_snapshots == 1
    assert record.observed.validation_s == pytest.approx(paused_s / 2, rel=0.9)


def test_a_loop_that_ends_before_its_loader_keeps_what_ended(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    network, optimizer = made()
    with observe(network, optimizer, out=out, sizes=sizes_of, warm_up_steps=0) as run:
        for _ in range(2):
            for number, batch in enumerate(run.epoch(make_loader())):
                loss_of(network, batch).backward()
                optimizer.step()
                if number == 4:
                    break
    assert [len(one.steps["loss"]) for one in records_of(out) if one.steps] == [5, 5]


def test_an_error_of_the_loop_is_its_own_and_what_ended_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    network, optimizer = made()

    def train_badly() -> None:
        with observe(network, optimizer, out=out, sizes=sizes_of) as run:
            for number, batch in enumerate(run.epoch(make_loader())):
                loss_of(network, batch).backward()
                optimizer.step()
                if number == 6:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_badly()
    (record,) = records_of(out)
    assert record.steps is not None
    assert len(record.steps["loss"]) >= 6


def test_a_sampler_that_never_hears_of_a_new_epoch_is_told_once(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    sampler = DistributedSampler(Curves(), num_replicas=1, rank=0)
    loader = DataLoader(Curves(), batch_size=2, sampler=sampler, collate_fn=collate)

    def train_untold() -> None:
        network, optimizer = made()
        with observe(network, optimizer, out=out, sizes=sizes_of) as run:
            for _ in range(3):
                for batch in run.epoch(loader):
                    loss_of(network, batch).backward()
                    optimizer.step()

    with pytest.warns(UserWarning, match="DistributedSampler was not told of epoch 1") as told:
        train_untold()
    assert sum("was not told" in str(one.message) for one in told) == 1
    codes = [[one.code for one in record.warnings] for record in records_of(out)]
    assert ["same-epoch" in one for one in codes] == [False, True, True]


def test_loaders_of_torch_are_known_by_their_samplers(tmp_path: Path) -> None:
    images = TensorDataset(torch.rand(6, 1, 32, 32), torch.zeros(6, 32, 32, dtype=torch.int64))
    found = []
    for number, settings in enumerate(({"shuffle": True}, {}, {"shuffle": True, "num_workers": 1})):
        network, optimizer = made()
        out = tmp_path / f"{number}.jsonl"
        with observe(network, optimizer, out=out, sizes="canvas", warm_up_steps=0) as run:
            for inputs, targets in run.epoch(DataLoader(images, batch_size=3, **settings)):
                cross_entropy(network(inputs), targets).backward()
                optimizer.step()
        (record,) = records_of(out)
        assert record.batching is not None
        assert record.batching.padding_ratio == 0
        assert record.spec.batch_size == 3
        found.append((record.spec.sampler, record.spec.num_workers, record.spec.corpus_id))
    assert [one[:2] for one in found] == [("random", 0), ("other", 0), ("random", 1)]
    assert found[0][2] == found[2][2]
    assert found[0][2] != found[1][2]


def test_precision_is_that_of_the_forward_pass(tmp_path: Path) -> None:
    network, optimizer = made()
    with observe(network, optimizer, out=tmp_path / "run.jsonl", sizes=sizes_of) as run:
        for batch in itertools.islice(run.epoch(make_loader()), 4):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(network, batch)
            loss.backward()
            optimizer.step()
    (record,) = records_of(tmp_path / "run.jsonl")
    assert record.spec.precision == "bf16"


def by_fabric(network: Any, optimizer: Any) -> tuple[Any, Any, Callable[[Any], None]]:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    wrapped, stepping = fabric.setup(network, optimizer)
    return wrapped, stepping, fabric.backward


def by_accelerate(network: Any, optimizer: Any) -> tuple[Any, Any, Callable[[Any], None]]:
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True)
    wrapped, stepping = accelerator.prepare(network, optimizer)
    return wrapped, stepping, accelerator.backward


@pytest.mark.parametrize(("setup", "loop"), [(by_fabric, "fabric"), (by_accelerate, "own")])
def test_frameworks_may_wrap_network_and_optimizer(tmp_path: Path, setup: Any, loop: str) -> None:
    network, stepping, backward = setup(*made())
    out = tmp_path / "run.jsonl"
    with observe(network, stepping, out=out, sizes=sizes_of, warm_up_steps=0) as run:
        for batch in run.epoch(make_loader()):
            backward(loss_of(network, batch))
            stepping.step()
            stepping.zero_grad()
    plain = tmp_path / "plain.jsonl"
    train(plain, num_epochs=1)
    (record,), (other,) = records_of(out), records_of(plain)
    assert record.spec.loop == loop
    assert record.spec.model == other.spec.model
    assert record.spec.model_id == other.spec.model_id
    assert record.steps is not None
    assert len(record.steps["loss"]) == 10
    assert None not in record.steps["forward_s"]
    assert None not in record.steps["optimizer_s"]


def test_workers_that_live_on_hold_no_lock(tmp_path: Path) -> None:
    loader = make_loader(num_workers=1, persistent_workers=True)
    out = tmp_path / "run.jsonl"
    train(out, loader=loader, num_epochs=1)
    train(out, loader=loader, num_epochs=1)
    assert [one.replicate for one in records_of(out)] == [0, 1]


def test_two_runs_at_once_do_not_share_a_file(tmp_path: Path) -> None:
    network, optimizer = made()
    out = tmp_path / "run.jsonl"
    with observe(network, optimizer, out=out, sizes=sizes_of) as run:
        for _ in itertools.islice(run.epoch(make_loader()), 1):
            with pytest.raises(InputError, match="another sweep is writing this file"):
                train(out)


def test_what_is_no_optimizer_is_refused() -> None:
    network, _ = made()
    with pytest.raises(InputError, match="this is no torch"):
        observe(network, network, out="run.jsonl")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="it needs an optimizer"):
        observe(network, out="run.jsonl")


@pytest.mark.processes
def test_a_killed_run_keeps_every_epoch_that_ended(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom pathlib import Path\n"
    script += f"from test_watched_own import train; train(Path({str(out)!r}), num_epochs=int(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", script, "10000"])
    try:
        deadline_s = time.monotonic() + 300
        while not out.exists() or out.read_bytes().count(b"\n") < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    num_epochs = out.read_bytes().count(b"\n")
    subprocess.run([sys.executable, "-c", script, "1"], check=True)
    runs = Findings(load_results(out).records).latest
    assert [one.replicate for one in runs] == [0, 1]
    assert [one.attempt for one in load_results(out).records] == [*range(num_epochs), 0]
