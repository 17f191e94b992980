from __future__ import annotations

import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import campaign
import campaign_order
import campaign_process
import pytest
from campaign_steps import Outcome, Step
from record_factory import compute_spec, record_of

from vnbench.records.record import Cause
from vnbench.sweep.budget import GRACE_SHARE

pytestmark = pytest.mark.processes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def write(path: Path, *steps: tuple[str, str, float], reports: tuple[str, ...] = ()) -> Path:
    lines = []
    for name, code, minutes in steps:
        command = f"python -c {shlex.quote(code)}"
        lines += ["[[step]]", f"name = {name!r}", f"command = {json.dumps(command)}", f"minutes = {minutes}"]
    for code in reports:
        lines += ["[[report]]", f"command = {json.dumps(f'python -c {shlex.quote(code)}')}"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run_campaign(definition: Path, results: Path, *arguments: str) -> int:
    return campaign.main([str(definition), "--results", str(results), *arguments])


def test_steps_run_in_order_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append = "open({path!r}, 'a').write('{{}}')".format(path=str(tmp_path / "order"))
    definition = write(
        tmp_path / "c.toml", ("first", append.replace("{}", "1"), 1.0), ("second", append.replace("{}", "2"), 1.0)
    )
    for _ in range(2):
        assert run_campaign(definition, tmp_path / "results") == 0
    assert (tmp_path / "order").read_text() == "12"
    assert capsys.readouterr().out.count("done") == 4
    assert run_campaign(definition, tmp_path / "results", "--again", "second") == 0
    assert (tmp_path / "order").read_text() == "122"


def test_a_step_imports_the_checkout_whether_it_is_installed_or_not(tmp_path: Path) -> None:
    code = f"import sys; assert sys.path[1] == {str(BENCHMARKS.parent)!r}, sys.path"
    definition = write(tmp_path / "c.toml", ("one", code, 1.0))
    assert run_campaign(definition, tmp_path / "results") == 0
    assert json.loads((tmp_path / "results" / campaign.STATE_FILE).read_text())["one"]["exit_code"] == 0


def test_what_fails_runs_again_and_what_it_said_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = str(tmp_path / "there")
    code = f"import os, sys; print('tried'); ok = os.path.exists({marker!r}); open({marker!r}, 'w'); sys.exit(not ok)"
    definition = write(tmp_path / "c.toml", ("one", code, 1.0))
    assert run_campaign(definition, tmp_path / "results") == 0
    assert "exit code 1" in capsys.readouterr().out
    assert (tmp_path / "results/campaign/one.txt").read_text() == "tried\n"
    assert run_campaign(definition, tmp_path / "results") == 0
    assert "done" in capsys.readouterr().out


def test_a_step_out_of_time_may_put_its_records_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = str(tmp_path / "kept")
    code = f"import time\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    open({kept!r}, 'w').write('safe')\n"
    definition = write(tmp_path / "c.toml", ("long", code, 0.07))
    assert run_campaign(definition, tmp_path / "results") == 0
    assert (tmp_path / "kept").read_text() == "safe"
    assert "out of time" in capsys.readouterr().out
    outcome = json.loads((tmp_path / "results" / campaign.STATE_FILE).read_text())["long"]
    assert outcome["is_cut_short"] is True


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(signal.SIGINT, campaign.INTERRUPTED, id="ctrl-c"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="killed"),
    ],
)
def test_a_campaign_that_is_ended_leaves_nothing_at_work(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    begun, kept = tmp_path / "begun", tmp_path / "kept"
    step = f"import time\ntry:\n    open({str(begun)!r}, 'w').close()\n    time.sleep(600)\nfinally:\n"
    definition = write(tmp_path / "c.toml", ("long", step + f"    open({str(kept)!r}, 'w').close()\n", 1.0))
    command = [sys.executable, campaign.__file__, str(definition), "--results", str(tmp_path / "results")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore an interrupt, and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_for(begun)
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code
    wait_for(kept)
    if sent == signal.SIGINT:
        assert "long  not run" in out
        assert err.splitlines()[-1] == "interrupted; the same command continues"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_no_step_is_begun_that_would_not_end_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = write(tmp_path / "c.toml", ("long", "open('/nowhere/x', 'w')", 5.0), ("short", "pass", 1.0))
    minutes = str((campaign_order.GRACE_S + 90) / 60)
    assert run_campaign(definition, tmp_path / "results", "--minutes", minutes) == 0
    captured = capsys.readouterr()
    assert "long: left for another time" in captured.err
    assert "long   not run" in captured.out
    assert "short  done" in captured.out


def test_reports_are_drawn_and_what_has_no_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = write(
        tmp_path / "c.toml",
        ("step", "raise SystemExit(9)", 1.0),
        reports=("raise SystemExit('no records')", "print('drawn')"),
    )
    assert run_campaign(definition, tmp_path / "results", "--draw") == 1
    captured = capsys.readouterr()
    assert captured.out == "drawn\n"
    assert "no records" in captured.err


def test_reports_read_what_every_revision_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for name, replicate in (("r.jsonl", 0), ("r.2.jsonl", 1)):
        record = record_of(compute_spec(), replicate=replicate)
        (results / name).write_text(record.to_json() + "\n", encoding="utf-8")
    definition = write(tmp_path / "c.toml", ("step", "pass", 1.0))
    with definition.open("a", encoding="utf-8") as file:
        file.write('\n[[report]]\ncommand = "vnbench export {results}/r.jsonl --format json"\n')
    assert run_campaign(definition, results, "--draw") == 0
    assert [row["replicate"] for row in json.loads(capsys.readouterr().out)] == [0, 1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "[[step]]"),
        ("[[step]]\nname = 'a'\ncommand = 'b'", "minutes"),
        ("[[step]]\nname = 'a'\ncommand = 'b'\nminutes = 1\ncolour = 'red'", "colour"),
        ("[[step]]\nname = 'a'\ncommand = 'b'\nminutes = 1\n" * 2, "names of their own"),
        ("[[step", "end of document"),
    ],
)
def test_a_definition_that_cannot_be_used_is_refused(
    text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "c.toml"
    definition.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        run_campaign(definition, tmp_path / "results")
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


def test_a_step_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = write(tmp_path / "c.toml", ("one", "pass", 1.0))
    with pytest.raises(SystemExit) as stopped:
        run_campaign(definition, tmp_path / "results", "--again", "two")
    assert stopped.value.code == 2
    assert "there are one" in capsys.readouterr().err


def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *reports: dict[str, object]) -> Path:
    """Let each sweep of a campaign answer with the next of some reports; return a definition of one sweep."""
    waiting = list(reports)

    def command_of(text: str, folders: object, *, budget_s: float) -> list[str]:
        if text != "vnbench sweep":
            return [text]
        return [sys.executable, "-c", f"import sys; sys.stderr.write('told'); print({json.dumps(waiting.pop(0))!r})"]

    monkeypatch.setattr(campaign_process, "command_of", command_of)
    definition = tmp_path / "c.toml"
    definition.write_text("[[step]]\nname = 'one'\ncommand = 'vnbench sweep'\nminutes = 1\n")
    return definition


def test_a_sweep_is_done_when_nothing_is_left_and_runs_again_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = ({"statuses": {"ok": 3}, "num_not_started": 2}, {"statuses": {"ok": 3}, "num_not_started": 2})
    definition = answers(monkeypatch, tmp_path, *reports, {"statuses": {"ok": 4, "oom": 1}, "num_not_started": 0})
    results = tmp_path / "results"
    # In the first call it gets further, and has another turn, in which it does not.
    assert run_campaign(definition, results) == 0
    assert "partly done after" in capsys.readouterr().out
    kept = campaign.State(results / campaign.STATE_FILE).of("one")
    assert kept is not None
    assert len(kept.seconds_of_runs) == 2
    assert not kept.has_advanced
    assert run_campaign(definition, results) == 0
    out = capsys.readouterr().out
    assert "done after" in out
    assert "4 ok; 1 oom" in out
    assert (results / "campaign/one.txt").read_text() == "told"
    assert run_campaign(definition, results) == 0, "no fourth report is asked for"


def test_what_must_pass_ends_the_call_at_a_crash_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.jsonl"
    crashed = record_of(
        compute_spec(precision="bf16"), status="crashed", cause=Cause(kind="exception", message="no such device")
    )
    mended = record_of(compute_spec(precision="fp32"), status="crashed", cause=crashed.cause)
    again = dataclasses.replace(mended, status="ok", cause=None, attempt=1)
    out.write_text("".join(one.to_json() + "\n" for one in (crashed, mended, again)))
    bad = {"out": str(out), "statuses": {"ok": 1, "crashed": 1}, "num_not_started": 0}
    definition = answers(monkeypatch, tmp_path, bad, bad | {"statuses": {"ok": 2}})
    text = definition.read_text() + "must_pass = true\n[[step]]\nname = 'two'\ncommand = 'true'\nminutes = 1\n"
    definition.write_text(text)
    assert run_campaign(definition, tmp_path / "results") == campaign.STOPPED
    captured = capsys.readouterr()
    assert "one must pass and did not: 1 crashed; no other step starts" in captured.err
    assert captured.err.count("compute bf16: crashed: no such device") == 1
    assert "compute fp32" not in captured.err
    assert "two  not run" in captured.out
    # Mended, it is run anew, and all that comes after it.
    assert run_campaign(definition, tmp_path / "results") == 0
    assert capsys.readouterr().out.count("done after") == 2


def test_a_call_may_go_on_without_what_must_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = write(tmp_path / "c.toml", ("bad", "raise SystemExit(4)", 1.0), ("good", "pass", 1.0))
    definition.write_text(definition.read_text().replace("minutes = 1.0", "minutes = 1.0\nmust_pass = true", 1))
    assert run_campaign(definition, tmp_path / "results") == campaign.STOPPED
    captured = capsys.readouterr()
    assert "bad must pass and did not: exit code 4" in captured.err
    assert "good  not run" in captured.out
    assert run_campaign(definition, tmp_path / "results", "--go-on") == 0
    assert "good  done" in capsys.readouterr().out
    assert run_campaign(definition, tmp_path / "results", "--minutes", "0.5") == campaign.STOPPED
    assert "bad must pass" in capsys.readouterr().err


def step(name: str, **values: Any) -> Step:
    return Step(**{"name": name, "command": "true", "minutes": 1.0, "least_minutes": 0.5} | values)


def ended(**values: Any) -> Outcome:
    return Outcome(**{"exit_code": 0, "seconds": 1.0, "is_cut_short": False} | values)


def test_what_is_worth_most_comes_first_and_what_gets_no_further_last() -> None:
    steps = [step(name) for name in ("failed", "stuck", "waits", "waits-longer", "fresh")]
    steps += [step("later", priority=2), step("check", must_pass=True, priority=9)]
    outcomes = {
        "failed": ended(exit_code=1, turn=1),
        "stuck": ended(num_left=2, has_advanced=False, turn=2),
        "waits": ended(num_left=2, turn=4),
        "waits-longer": ended(num_left=2, turn=3),
        "fresh": None,
        "later": None,
        "check": None,
    }
    order = [one.name for one in campaign_order.in_order(steps, outcomes)]
    assert order == ["check", "fresh", "waits-longer", "waits", "later", "failed", "stuck"]
    assert campaign_order.in_order(steps, outcomes, goes_on=True)[-3].name == "check", "then it counts by its priority"


def test_a_step_that_cannot_finish_is_not_first_in_every_call(tmp_path: Path) -> None:
    steps = [step("endless"), step("next"), step("last", priority=2)]
    state = campaign.State(tmp_path / "state.json")
    calls = []
    for _ in range(3):
        ran: list[str] = []

        def run(one: Step, limit_s: float, ran: list[str] = ran) -> Outcome:
            ran.append(one.name)
            return ended(is_cut_short=one.name == "endless", exit_code=-2 if one.name == "endless" else 0)

        # There is time for one step a call.
        clock = iter([0.0, 0.0, *[45.0] * 9])
        campaign_order.run_steps(
            steps, state, run=run, seconds=60.0, clock=lambda clock=clock: next(clock), tell=lambda line: None
        )
        calls.append(ran)
    assert calls == [["endless"], ["next"], ["last"]]


def test_a_sweep_is_given_less_time_than_its_step_has() -> None:
    assert campaign_process.OVERRUN == GRACE_SHARE
    for limit_s in (30.0, 60.0, 480.0):
        longest_s = campaign_process.START_S + (1 + GRACE_SHARE) * campaign_process.budget_of(limit_s)
        assert longest_s == pytest.approx(limit_s), "even a trial that runs over its budget ends in time"
    words = campaign.command_of("vnbench sweep --config x", {}, budget_s=52.4)
    assert words[-4:] == ["--time-budget", "52s", "--no-plots", "--json"]
    assert "--json" not in campaign.command_of("vnbench profile", {}, budget_s=52.4)


@pytest.mark.slow
def test_a_sweep_of_a_campaign_tells_what_it_left_and_draws_neither_figures_nor_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sizes = "--device cpu --widths 64:160 --heights 32:64 --examples 4 --precision fp32 --norm-precision fp32"
    command = f"vnbench sweep {sizes} --checkpointing none --kind memory --memory-by trace --out {{results}}/r.jsonl"
    definition = tmp_path / "c.toml"
    definition.write_text(f"[[step]]\nname = 'one'\ncommand = {command!r}\nminutes = 5\n")
    assert run_campaign(definition, tmp_path / "results") == 0
    outcome = json.loads((tmp_path / "results" / campaign.STATE_FILE).read_text())["one"]
    assert outcome["statuses"] == {"ok": 2}, "batch 1 and 2"
    assert outcome["num_left"] == 0
    # What reads no image files has none written.
    assert list((tmp_path / "cache").rglob("*.png")) == []
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"campaign", campaign.STATE_FILE, "r.jsonl"}


def test_logs_of_a_campaign_are_kept_by_git_and_memory_snapshots_are_not() -> None:
    if not (BENCHMARKS.parent / ".git").exists():
        pytest.skip("this is no checkout")

    def is_ignored(path: str) -> bool:
        done = subprocess.run(["git", "check-ignore", "-q", path], cwd=BENCHMARKS.parent, check=False)
        return done.returncode == 0

    assert not is_ignored("results/a-gpu/campaign/steps.txt")
    assert not is_ignored("results/a-gpu/profiles/micro-1/profile.json")
    assert is_ignored("results/a-gpu/profiles/micro-1/memory_snapshot.pickle")


CAMPAIGN = campaign.read_campaign(BENCHMARKS / "campaign/campaign_cuda.toml")


@pytest.mark.parametrize("step", CAMPAIGN[0], ids=lambda step: step.name)
def test_every_step_of_the_campaign_on_a_gpu_is_there_and_fits_into_a_call(step: Step, tmp_path: Path) -> None:
    # Its sweeps are planned by the rehearsal.
    assert step.least_minutes <= step.minutes <= 8
    assert 60 * step.least_minutes <= 480 - campaign_order.GRACE_S
    words = campaign.command_of(step.command, {"results": str(tmp_path), "reports": str(tmp_path)}, budget_s=60.0)
    assert words[0] == sys.executable
    if words[1:4] == ["-m", "vnbench", "sweep"]:
        assert (BENCHMARKS.parent / words[words.index("--config") + 1]).exists()
    elif words[1] != "-m":
        assert (BENCHMARKS.parent / words[1]).exists()


def test_no_step_runs_tests_that_take_a_compiler_half_an_hour() -> None:
    (tests,) = (one for one in CAMPAIGN[0] if "pytest" in one.command)
    words = shlex.split(tests.command)
    assert words[words.index("-m", 3) + 1] == "gpu and not compilation"


@pytest.mark.parametrize("text", CAMPAIGN[1])
def test_every_report_of_the_campaign_is_a_script_or_a_command(text: str) -> None:
    words = campaign.command_of(text, {"results": "results", "reports": "reports"}, budget_s=0.0)
    assert words[1:4] == ["-m", "vnbench", "plot"] or (BENCHMARKS.parent / words[1]).exists()
