from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import small_run, state_digest, train

from vnbench.errors import InputError
from vnbench.loops import snapshot_files
from vnbench.loops.snapshot import Position, Snapshots, on_sigterm, read, restore, state_of
from vnbench.records.spec.words import SNAPSHOT_MODES, SnapshotMode

# torch says so of any run that goes on at the end of an epoch, where the schedule is all that is left.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")


def whole_run(tmp_path: Path) -> tuple[list[float], int]:
    run = small_run()
    num_steps = train(run, tmp_path / "whole")
    return state_digest(run), num_steps


@pytest.mark.parametrize("mode", SNAPSHOT_MODES)
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_run_that_stops_after_any_step_ends_as_one_that_never_stopped(
    tmp_path: Path, mode: SnapshotMode, num_workers: int
) -> None:
    expected, num_steps = whole_run(tmp_path)
    done = 0
    while done < num_steps:
        run = small_run()
        done += train(run, tmp_path / "parts", mode=mode, stop_after=1 + done % 3, num_workers=num_workers)
    assert state_digest(run) == expected
    assert done == num_steps


@pytest.mark.parametrize("sampler", ["random", "step-sorted", "bucketed", "pixel-budget"])
def test_every_sampler_goes_on_within_an_epoch(tmp_path: Path, sampler: str) -> None:
    whole = small_run(sampler=sampler)
    train(whole, tmp_path / "whole")
    train(small_run(sampler=sampler), tmp_path / "parts", stop_after=2)
    parts = small_run(sampler=sampler)
    train(parts, tmp_path / "parts")
    assert state_digest(parts) == state_digest(whole)


def test_the_global_generators_go_on_where_they_were(tmp_path: Path) -> None:
    run = small_run()
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(run, Position())
        expected = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))
        snapshots.restore(run)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1)) == expected


def test_counters_come_back(tmp_path: Path) -> None:
    with Snapshots(tmp_path) as snapshots:
        snapshots.save(small_run(), Position(next_step=2, counters={"best": 0.25, "name": "a"}))
        position = snapshots.restore(small_run())
    assert position == Position(next_step=2, counters={"best": 0.25, "name": "a"})


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    train(small_run(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_copied_state_does_not_change_while_training_goes_on() -> None:
    run = small_run()
    step_once(run)
    state = state_of(run, Position(), is_copied=True)
    before = pickle.dumps(state["parts"])
    step_once(run)
    assert pickle.dumps(state["parts"]) == before


def step_once(run: Any) -> None:
    run.model(torch.rand(2, 1, 8, 8)).square().mean().backward()
    run.optimizer.step()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"precision": "bf16"}, "precision 'fp32' there, 'bf16' here"),
        ({"width": 5}, r"the model's 0.weight is \(4, 1, 3, 3\) float32 there, \(5, 1, 3, 3\) float32 here"),
        ({"sampler": "random"}, "sampler 'bucketed' there, 'random' here"),
        ({"micro_batch_size": 4}, "micro_batch_size 2 there, 4 here"),
    ],
)
def test_a_snapshot_of_another_run_is_refused_by_what_differs(tmp_path: Path, other: Any, said: str) -> None:
    train(small_run(), tmp_path, stop_after=2)
    run = small_run(**other)
    before = state_digest(run)
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match=said):
        snapshots.restore(run)
    assert state_digest(run) == before


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    train(small_run(), tmp_path, stop_after=1)
    run = small_run()
    sgd = torch.optim.SGD(run.model.parameters(), lr=0.1)
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match="AdamW of 6 tensors there, SGD of 6"):
        snapshots.restore(type(run)(model=run.model, optimizer=sgd, settings=run.settings))


def test_a_corpus_that_grew_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(small_run(), tmp_path, stop_after=1)
    import small_run as module

    monkeypatch.setattr(module, "SIZES_N2", np.concatenate([module.SIZES_N2, [[40, 100]]]))
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match="num_examples 13 there, 14 here"):
        snapshots.restore(small_run())


def test_a_snapshot_of_a_later_version_is_refused() -> None:
    run = small_run()
    state = state_of(run, Position(), is_copied=False) | {"version": 2}
    with pytest.raises(InputError, match="it is of version 2, this vnbench reads version 1"):
        restore(run, state, where="snapshot.pt")


@pytest.mark.parametrize("harm", ["torn", "changed"])
def test_of_a_torn_or_changed_snapshot_the_one_before_is_taken(tmp_path: Path, harm: str) -> None:
    train(small_run(), tmp_path, stop_after=3)
    last = max(tmp_path.iterdir())
    content = bytearray(last.read_bytes())
    if harm == "torn":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    last.write_bytes(content)
    run = small_run()
    with Snapshots(tmp_path) as snapshots, pytest.warns(UserWarning, match="not the one it was written with"):
        assert snapshots.restore(run).counters == {"steps": 2}


def test_without_a_whole_snapshot_a_run_is_not_begun_anew(tmp_path: Path) -> None:
    train(small_run(), tmp_path, stop_after=1)
    (only,) = tmp_path.iterdir()
    only.write_bytes(b"")
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match="not the one it was written with"):
        snapshots.restore(small_run())


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "was run"),)

    path = tmp_path / "snapshot.pt"
    torch.save({"version": 1, "parts": Hostile()}, path)
    with pytest.raises(InputError, match=r"this is no snapshot of a training run"):
        read(path)
    assert not (tmp_path / "was run").exists()


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    class Scheduler:
        def state_dict(self) -> dict[str, Any]:
            return {"rule": [lambda epoch: epoch]}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    run = small_run()
    run = type(run)(model=run.model, optimizer=run.optimizer, scheduler=Scheduler())
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match=r"scheduler.rule.0 function"):
        snapshots.save(run, Position())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", SNAPSHOT_MODES)
@pytest.mark.parametrize("place", ["write", "sync"])
def test_a_disk_that_fills_up_leaves_the_snapshots_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: SnapshotMode, place: str
) -> None:
    train(small_run(), tmp_path, stop_after=3)
    before = sorted(tmp_path.iterdir())

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = small_run()

    def fill_up() -> None:
        with Snapshots(tmp_path, mode=mode) as snapshots:
            snapshots.restore(run)
            monkeypatch.setattr(*((snapshot_files._Hashed, "write") if place == "write" else (os, "fsync")), full)
            snapshots.save(run, Position(next_step=3))

    with pytest.raises(InputError, match="No space left on device") as caught:
        fill_up()
    assert "the ones before are whole" in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    assert train(run, tmp_path) > 0


def test_a_disk_without_room_is_told_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    with Snapshots(tmp_path) as snapshots, pytest.raises(InputError, match="3 more snapshots take about"):
        snapshots.restore(small_run())


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="snapshots cannot be kept here"):
        Snapshots(tmp_path / "file")


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with Snapshots(tmp_path), pytest.raises(InputError, match="another run keeps its snapshots here"):
        Snapshots(tmp_path)
    with Snapshots(tmp_path):
        pass


@pytest.mark.parametrize(("options", "said"), [({"keep": 0}, "keep 0"), ({"mode": "later"}, "mode later")])
def test_settings_that_are_none_are_told(tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Snapshots(tmp_path, **options)


def test_sigterm_is_told_to_the_loop_and_ends_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with on_sigterm() as is_stopping:
        assert not is_stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_stopping()
    assert signal.getsignal(signal.SIGTERM) is before


TRAIN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small_run import small_run, state_digest, train
from vnbench.loops import snapshot_files

import torch
torch.set_num_threads(1)

def killed_at(owner, name, number):
    real, left = getattr(owner, name), [int(number)]
    def instead(*arguments):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    setattr(owner, name, instead)

places = {"write": (snapshot_files._Hashed, "write"), "sync": (os, "fsync"), "name": (Path, "replace")}
if len(sys.argv) > 4:
    killed_at(*places[sys.argv[4]], sys.argv[5])
run = small_run()
train(run, Path(sys.argv[2]), mode=sys.argv[3])
print(state_digest(run))
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the processes do beside: another number adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.processes
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("mode", "kills"),
    [("sync", [("write", 1), ("write", 200), ("name", 3), ("sync", 2)]), ("async", [("write", 100), ("sync", 3)])],
)
def test_a_run_that_is_killed_within_a_snapshot_ends_as_one_that_never_was(
    tmp_path: Path, mode: SnapshotMode, kills: list[tuple[str, int]]
) -> None:
    expected, _ = whole_run(tmp_path)
    arguments = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(tmp_path / "killed"), mode]
    for place, number in kills:
        killed = subprocess.run([*arguments, place, str(number)], check=False)
        assert killed.returncode == -signal.SIGKILL
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert ended.stdout == f"{expected}\n"
    assert not list((tmp_path / "killed").glob(".*"))
