from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import campaign
import pytest

from vnbench.cli import run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def write(path: Path, *steps: tuple[str, str, float], reports: tuple[str, ...] = ()) -> Path:
    lines = []
    for name, code, minutes in steps:
        command = f"python -c {shlex.quote(code)}"
        lines += ["[[step]]", f"name = {name!r}", f"command = {json.dumps(command)}", f"minutes = {minutes}"]
    for code in reports:
        lines += ["[[report]]", f"command = {json.dumps(f'python -c {shlex.quote(code)}')}"]
    path.write_text("\n".join(lines))
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
        assert err.splitlines()[-1] == "interrupted; the same command goes on"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def test_no_step_is_begun_that_would_not_end_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = write(tmp_path / "c.toml", ("long", "open('/nowhere/x', 'w')", 5.0), ("short", "pass", 1.0))
    minutes = str((campaign.GRACE_S + 90) / 60)
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


CAMPAIGN = campaign.read_campaign(BENCHMARKS / "campaign_cuda.toml")


@pytest.mark.parametrize("step", CAMPAIGN[0], ids=lambda step: step.name)
def test_every_step_of_the_campaign_on_a_gpu_is_understood(
    step: campaign.Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step.least_minutes <= step.minutes <= 8.5, "it fits into nine minutes"
    words = campaign.command_of(step.command, {"results": str(tmp_path), "reports": str(tmp_path)}, budget_s=60.0)
    assert words[0] == sys.executable
    if words[1:4] == ["-m", "vnbench", "sweep"]:
        definition = BENCHMARKS.parent / words[words.index("--config") + 1]
        rest = words[words.index("--config") + 2 :]
        assert run(["sweep", "--config", str(definition), *rest, "--device", "cpu", "--dry-run", "--json"]) == 0
    elif words[1] != "-m":
        assert (BENCHMARKS.parent / words[1]).exists()


@pytest.mark.parametrize("text", CAMPAIGN[1])
def test_every_report_of_the_campaign_is_a_script(text: str) -> None:
    words = campaign.command_of(text, {"results": "results", "reports": "reports"}, budget_s=0.0)
    assert (BENCHMARKS.parent / words[1]).exists()
