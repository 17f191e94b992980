"""Sweeps as a user runs them, on images that are small enough for seconds.

What ends a sweep from outside meets one in a process of its own, and so does what a sweep leaves. The others run in the
process of the tests, and share the server of its trials: to import torch for each takes longer than its trials.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vnbench.cli.app import run as run_here
from vnbench.records.record import Cause, TrialRecord
from vnbench.records.store import load_results

pytestmark = [pytest.mark.slow, pytest.mark.processes]

SMALL = ["--widths", "64:160", "--heights", "32:64", "--device", "cpu", "--examples", "10", "--subset", "2"]
# What else runs on this machine is no matter of these tests, nor how fast it is.
SMALL += ["--max-attempts", "1", "--time-budget", "10h"]
DRAWN = SMALL
SMALL = [*SMALL, "--no-plots"]
"""Figures take longer than all trials together: most sweeps here draw none."""
ONE_CELL = ["--batch-size", "1", "--precision", "fp32", "--norm-precision", "fp32", "--checkpointing", "none"]
SIX_LOGS = ["--examples", "6", "--widths", "64:160", "--heights", "32:64"]
OWN = ["--device", "cpu", "--max-attempts", "1", "--time-budget", "10h", "--no-plots"]
ONE_CELL += ["--sampler", "bucketed", "--num-workers", "0"]
NUM_KILLS = 6
HANG_GUARD_S = 1_800.0
"""What ends a test of something that never happens; however slow a machine is, what does happen takes less."""


class Vnbench:
    """Runs the command in one folder, or starts it in a process whose mark finds all that it starts again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = uuid.uuid4().hex
        self.environment = os.environ | {"VNBENCH_TEST_MARK": self.mark}

    def start(self, *arguments: str, start_new_session: bool = False) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "vnbench", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=start_new_session,
            # A shell that runs the tests in the background has them ignore an interrupt, and all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_here(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                is_marked = self.mark.encode() in (entry / "environ").read_bytes()
                is_zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if is_marked and not is_zombie:
                found.append(int(entry.name))
        return found

    def children(self, *, of: int) -> list[int]:
        """Return the processes of trials: marked ones that lead a session of their own, and are not the parent."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                if pid != of and os.getsid(pid) == pid:
                    found.append(pid)
        return found

    def is_empty_in_the_end(self) -> bool:
        end = time.monotonic() + HANG_GUARD_S
        while self.processes() and time.monotonic() < end:
            time.sleep(0.05)
        return not self.processes()


@pytest.fixture
def vnbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vnbench]:
    monkeypatch.setenv("COLUMNS", "200")
    runner = Vnbench(tmp_path)
    yield runner
    for pid in runner.processes():
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Any, *, within_s: float = HANG_GUARD_S) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def records_in(path: Path) -> tuple[TrialRecord, ...]:
    return load_results(path).records if path.exists() else ()


def test_a_sweep_leaves_records_table_and_plots_and_says_what_to_try_next(vnbench: Vnbench) -> None:
    process = vnbench.start("sweep", *DRAWN)
    out, err = process.communicate(timeout=HANG_GUARD_S)
    assert process.returncode == 0, err
    (path,) = vnbench.folder.glob("results/cpu-*/sweep-*.jsonl")
    records = records_in(path)
    # Four trials are of bf16, unless the probe found it slower than fp32 on this processor.
    num_trials = 10 if "left out: bf16" in err else 14
    assert len(records) == num_trials
    assert {record.status for record in records} == {"ok"}
    assert {record.environment["device_type"] for record in records} == {"cpu"}
    for word in ("valid", "Mpx/s", "padding", "CPU figures"):
        assert word in out
    for line in (
        "device: CPU",
        "10 synthetic images",
        f"[{num_trials}/{num_trials}]",
        "left)",
        f"records: {path.relative_to(vnbench.folder)}",
    ):
        assert line in err
    assert err.count("\nnext: ") == 3
    assert out.startswith("Answer: ")
    names = {figure.name for figure in path.with_suffix("").glob("*.png")}
    drawn = {"effects", "step_time", "peak_memory", "padding", "repetition", "workers", "epoch_time", "drift"}
    assert names == {f"{name}.png" for name in drawn}
    assert "from 3 repeated trials" in out
    answer = " ".join(out.partition("\nFastest: ")[2].split())  # where its lines break, its numbers decide
    for words in ("the centre", "One change at a time", " batch 2: ", " checkpointing stages: ", "memory"):
        assert words in answer


def test_compute_trials_alone_have_a_table_of_canvases_and_a_price_per_epoch(vnbench: Vnbench) -> None:
    options = ["--kind", "compute", "--compute-sizes", "3", "--min-steps", "2", "--max-steps", "4"]
    done = vnbench.run("sweep", *DRAWN, *ONE_CELL, *options, "--price-per-hour", "3.6", "--out", "r.jsonl")
    assert done.returncode == 0, done.stderr
    (record,) = records_in(vnbench.folder / "r.jsonl")
    assert record.kind == "compute"
    assert [canvas.stop.rule in ("noise-target", "max-steps") for canvas in record.canvases] == [True] * 3
    for word in ("64 x 160", "32 x 64", "first", "epoch", "cost"):
        assert word in done.stdout
    names = {figure.name for figure in (vnbench.folder / "r").glob("*.png")}
    assert "compute.png" in names


def test_a_sweep_draws_nothing_where_that_is_asked_for_and_vnbench_plot_does_so_later(vnbench: Vnbench) -> None:
    arguments = ["sweep", *DRAWN, *ONE_CELL, "--kind", "memory", "--out", "r.jsonl"]
    assert vnbench.json(*arguments, "--no-plots")["plots"] == []
    assert [path.name for path in vnbench.folder.iterdir() if path.is_dir()] == []
    assert vnbench.json("plot", "r.jsonl", "--out", "figures")["plots"] != []


def test_run_again_it_repeats_nothing_and_json_is_all_there_is_on_stdout(vnbench: Vnbench) -> None:
    arguments = ["sweep", *SMALL, *ONE_CELL, "--out", "r.jsonl"]
    first = vnbench.json(*arguments)
    content = (vnbench.folder / "r.jsonl").read_bytes()
    second = vnbench.json(*arguments)
    assert (vnbench.folder / "r.jsonl").read_bytes() == content
    for report in (first, second):
        assert {"out", "num_trials", "statuses", "elapsed_s"} <= set(report)
        assert (report["out"], report["num_trials"], report["statuses"]) == ("r.jsonl", 2, {"ok": 2})
        assert report["elapsed_s"] > 0


def test_accumulated_binary_training_runs_in_a_process_per_replicate(vnbench: Vnbench) -> None:
    changes = ["--batch-size", "4", "--micro-batch-size", "2", "--task", "binary", "--subset", "4"]
    vnbench.json("sweep", *SMALL, *ONE_CELL, *changes, "--out", "r.jsonl", "--replicates", "2")
    training = [record for record in records_in(vnbench.folder / "r.jsonl") if record.kind == "training"]
    assert [(record.replicate, record.status) for record in training] == [(0, "ok"), (1, "ok")]
    assert len({record.spec_id for record in training}) == 1
    assert len({record.trial_id for record in training}) == 2
    assert all(set((record.steps or {})["num_micro_batches"]) == {2} for record in training)


def test_a_budget_too_small_for_anything_says_the_least_and_leaves_nothing_behind(vnbench: Vnbench) -> None:
    done = vnbench.run("sweep", *SMALL, "--out", "r.jsonl", "--time-budget", "1s")
    assert done.returncode == 3
    assert "--time-budget 1 s is too small to measure anything: the first trial and the report end after" in done.stderr
    assert not (vnbench.folder / "r.jsonl").exists()


def test_a_second_sweep_on_the_same_file_is_refused(vnbench: Vnbench) -> None:
    # So long that however late the second one starts, the first is not done.
    first = vnbench.start("sweep", *SMALL, "--replicates", "99", "--out", "r.jsonl")
    wait_for(lambda: records_in(vnbench.folder / "r.jsonl"))
    second = vnbench.run("sweep", *SMALL, "--out", "r.jsonl")
    assert second.returncode == 2
    assert "another sweep is writing this file" in second.stderr
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=HANG_GUARD_S)
    assert first.returncode == 130


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_is_finished_and_says_how_to_go_on(
    vnbench: Vnbench, signal_number: signal.Signals
) -> None:
    process = vnbench.start("sweep", *SMALL, "--out", "r.jsonl")
    wait_for(lambda: len(records_in(vnbench.folder / "r.jsonl")) >= 2)
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=HANG_GUARD_S)
    assert process.returncode == 130
    assert out == ""
    assert "run the same command again to continue" in err
    assert "Traceback" not in err
    assert vnbench.is_empty_in_the_end()
    assert {record.status for record in records_in(vnbench.folder / "r.jsonl")} == {"ok"}


def has_loaded(pid: int, library: str) -> bool:
    try:
        return library in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.mark.parametrize("moment", ["it imports", "torch is imported for it", "it prepares"])
def test_ctrl_c_before_the_first_trial_tells_nothing_of_the_insides(vnbench: Vnbench, moment: str) -> None:
    process = vnbench.start("sweep", *SMALL, "--out", "r.jsonl", start_new_session=True)
    is_reached = {
        "it imports": lambda: has_loaded(process.pid, "numpy"),
        "torch is imported for it": lambda: any(has_loaded(pid, "libtorch") for pid in vnbench.processes()),
        "it prepares": lambda: any(vnbench.folder.iterdir()),
    }
    wait_for(is_reached[moment])
    # As a terminal does: every process of the group is told, the one that imports torch meanwhile too.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=HANG_GUARD_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Error" not in err


def test_a_trial_that_is_killed_becomes_a_record_and_the_sweep_goes_on(vnbench: Vnbench) -> None:
    command = ("sweep", *SMALL, *ONE_CELL, "--replicates", "4", "--out", "r.jsonl")
    process = vnbench.start(*command)
    path = vnbench.folder / "r.jsonl"
    wait_for(lambda: len(records_in(path)) >= 2)
    while {record.status for record in records_in(path)} == {"ok"}:
        num_finished = len(records_in(path))
        for pid in wait_for(lambda: vnbench.children(of=process.pid)):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself: the next one is killed
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda num=num_finished: len(records_in(path)) > num)
    _, err = process.communicate(timeout=HANG_GUARD_S)
    assert process.returncode == 0
    records = records_in(path)
    assert len(records) == 5
    (crashed,) = (record for record in records if record.status != "ok")
    assert crashed.cause is not None
    assert (crashed.status, crashed.cause.kind) == ("crashed", "signal")
    assert "--retry crashed" in err
    report = vnbench.json(*command, "--retry", "crashed,timeout")
    assert report["statuses"] == {"ok": 5}
    (retried,) = (record for record in records_in(path) if record.attempt == 1)
    assert retried.spec_id == crashed.spec_id


@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_an_image_that_does_not_decode_ends_the_sweep_with_what_was_measured(
    vnbench: Vnbench, num_workers: str
) -> None:
    logs = vnbench.folder / "logs"
    assert vnbench.run("corpus", str(logs), *SIX_LOGS).returncode == 0
    (logs / "corpus.json").unlink()
    for image in sorted((logs / "images").iterdir()):
        content = bytearray(image.read_bytes())
        content[len(content) // 2] ^= 255  # among the pixels: the header and the end are whole
        image.write_bytes(content)
    levers = ["--batch-size", "1,2", "--num-workers", num_workers, "--replicates", "2", "--subset", "4"]
    done = vnbench.run("sweep", *OWN, "--corpus", str(logs), *ONE_CELL, *levers, "--out", "r.jsonl")
    assert done.returncode == 3, done.stderr
    (crashed,) = (record for record in records_in(vnbench.folder / "r.jsonl") if record.kind == "training")
    assert crashed.cause is not None
    assert (crashed.status, crashed.cause.kind) == ("crashed", "unusable-image")
    assert crashed.cause.message.startswith(f"{logs}/images/00000")
    assert f"so the sweep ends here and keeps all finished trials: {logs}/images/00000" in done.stderr
    assert f"nothing was measured of training: 1 crashed; the first: {logs}/images/00000" in done.stderr
    assert "next: mend the images, or remove those that cannot be used, and measure again: vnbench sweep" in done.stderr
    assert "2 worst-case memory trials" in done.stdout  # the table of what was measured


def test_trials_that_run_too_long_are_timeouts(vnbench: Vnbench) -> None:
    done = vnbench.run("sweep", *SMALL, *ONE_CELL, "--out", "r.jsonl", "--trial-timeout", "0.05s")
    assert done.returncode == 3
    assert [record.status for record in records_in(vnbench.folder / "r.jsonl")] == ["timeout", "timeout"]


def test_the_users_own_corpus_and_its_largest_image_are_measured(vnbench: Vnbench) -> None:
    vnbench.json("corpus", "logs", "--examples", "5", "--widths", "64:160", "--heights", "32:64", "--task", "binary")
    options = ["--corpus", "logs", "--task", "binary", "--subset", "2", *OWN, *ONE_CELL, "--out", "r.jsonl"]
    assert vnbench.json("sweep", *options)["statuses"] == {"ok": 2}
    assert [record.images for record in records_in(vnbench.folder / "r.jsonl")] == [{"corpus": "logs"}] * 2
    not_drawn = vnbench.json("plot", "r.jsonl", "--out", "plots")["left_out"]
    assert any("measure with: vnbench sweep --corpus logs " in line for line in not_drawn), not_drawn
    refused = vnbench.run("sweep", *options, "--widths", "64:80")
    assert refused.returncode == 2
    assert "--widths 64:80" in refused.stderr
    assert "images/" in refused.stderr


def test_kills_lose_and_repeat_no_finished_trial_and_leave_no_process(vnbench: Vnbench) -> None:
    path = vnbench.folder / "r.jsonl"
    moments = random.Random(20_260_101)
    kept: list[str] = []
    arguments = ["sweep", *SMALL, *ONE_CELL, "--out", "r.jsonl", "--replicates", "9"]
    for number in range(NUM_KILLS):
        process = vnbench.start(*arguments)
        if number % 2:  # most of them while it starts
            time.sleep(moments.uniform(0.5, 3.0))
        else:  # among its trials
            wait_for(lambda run=process, kept=kept: len(records_in(path)) > len(kept) or run.poll() is not None)
            time.sleep(moments.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        assert vnbench.is_empty_in_the_end()
        finished = [record.trial_id for record in records_in(path)]
        assert finished[: len(kept)] == kept, "a finished trial was lost"
        kept = finished
    assert len(kept) >= NUM_KILLS / 2
    report = vnbench.json(*arguments)
    finished = [record.trial_id for record in records_in(path)]
    assert finished[: len(kept)] == kept
    assert len(finished) == len(set(finished)), "a finished trial was repeated"
    assert len(finished) == report["num_trials"] == 10


FACTORED = ["--design", "factored", "--batch-size", "1,2", "--precision", "fp32", "--norm-precision", "fp32"]
FACTORED += ["--checkpointing", "none,stages", "--sampler", "bucketed", "--num-workers", "0,1"]
FACTORED += ["--compute-sizes", "4", "--min-steps", "2", "--max-steps", "2", "--reference-runs", "1"]


def test_a_factored_sweep_confirms_a_few_of_the_cells_that_it_forecasts(vnbench: Vnbench) -> None:
    command = ("sweep", *SMALL, *FACTORED, "--out", "r.jsonl")
    report = vnbench.json(*command)
    records = load_results(vnbench.folder / "r.jsonl").records
    kinds = [record.kind for record in records]
    assert kinds.count("compute") == 4, "the centre, another batch, and checkpointing at both"
    assert kinds.count("loader") == 3
    trained = [record for record in records if record.kind == "training"]
    assert len(trained) == 10
    assert len({record.spec_id for record in trained[::2]}) == 1, "the centre before each configuration"
    assert [record.forecast is not None for record in trained] == [False, True] * 5
    assert len(report["confirmations"]) == 5
    assert report["statuses"] == {"ok": len(records)}
    again = vnbench.run(*command)
    assert again.returncode == 0
    assert len(load_results(vnbench.folder / "r.jsonl").records) == len(records), "nothing is measured twice"
    assert "5 confirmed configurations off by" in " ".join(again.stdout.split()).replace("Forecasts of ", "")
    assert vnbench.json("fit", "r.jsonl")["models"]

    path = vnbench.folder / "r.jsonl"
    confirming = dataclasses.replace(
        records[-1], status="crashed", cause=Cause(kind="exception", message="made to crash")
    )
    path.write_text("".join(f"{record.to_json()}\n" for record in (*records[:-1], confirming)))
    vnbench.json(*command, "--retry", "crashed")
    retried = load_results(path).records[len(records) :]
    assert [(record.spec_id, record.replicate, record.attempt) for record in retried] == [
        (trained[0].spec_id, 5, 0),
        (confirming.spec_id, 0, 1),
    ]
    assert retried[-1].forecast is not None


def test_the_factored_design_settles_its_own_kinds(vnbench: Vnbench) -> None:
    done = vnbench.run("sweep", *SMALL, "--design", "factored", "--kind", "training")
    assert done.returncode == 2
    assert "the factored design decides what is measured" in done.stderr


def test_formats_of_the_same_images_are_an_axis(vnbench: Vnbench) -> None:
    formats = [*ONE_CELL, "--image-format", "png,tiff-g4,tiff-zstd", "--reference-runs", "1"]
    done = vnbench.run("sweep", *SMALL, "--kind", "loader,training", *formats, "--out", "r.jsonl")
    assert done.returncode == 0, done.stderr
    records = records_in(vnbench.folder / "r.jsonl")
    assert {(record.kind, record.spec.image_format) for record in records} >= {
        (kind, name) for kind in ("loader", "training") for name in ("png", "tiff-g4", "tiff-zstd")
    }
    assert len({record.corpus_id for record in records}) == 1
    assert {record.status for record in records} == {"ok"}


def test_images_of_ones_own_have_a_format_already(vnbench: Vnbench) -> None:
    vnbench.run("corpus", "logs", "--examples", "4", "--widths", "64:96", "--heights", "32:48")
    done = vnbench.run("sweep", "--corpus", "logs", "--image-format", "tiff-g4", "--dry-run")
    assert done.returncode == 2
    assert "--image-format tiff-g4: the images of --corpus have a format already" in done.stderr


def test_a_loader_sweep_tells_stages_and_the_knee(vnbench: Vnbench) -> None:
    done = vnbench.run(
        "sweep", *DRAWN, "--kind", "loader", "--num-workers", "0,1", "--appetite", "0.5", "--out", "r.jsonl"
    )
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "empty-workers" in text
    assert "0 workers supply 0.500 examples/s (given), with 10.0 % to spare" in text
    assert (vnbench.folder / "r" / "supply.png").stat().st_size > 1000


def test_a_results_file_of_any_name_and_a_place_where_no_plots_can_be_lose_nothing(vnbench: Vnbench) -> None:
    for out in ("baseline", "r.jsonl"):
        (vnbench.folder / "r").touch()
        done = vnbench.run("sweep", *DRAWN, *ONE_CELL, "--kind", "memory", "--out", out)
        assert done.returncode == 0, done.stderr
        assert "verdict" in done.stdout
    assert "not drawn: peak memory: r cannot be written (File exists)" in done.stderr
    assert len(load_results(vnbench.folder / "baseline").records) == 1
    assert (vnbench.folder / "baseline_plots" / "peak_memory.png").exists()
