"""Every command that the README and the guide show is run, in a folder that holds what their reader has."""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from record_factory import observed_run

from vnbench.cli.app import run
from vnbench.commands.guide import PAGES

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "vnbench" / "guide"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {"README": README, **{name: (GUIDE / f"{name}.md").read_text(encoding="utf-8") for name in PAGES}}


def lines_of(text: str, language: str) -> list[str]:
    """Return the lines of all blocks of a language in a page."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


LINES = {name: lines_of(text, "bash") for name, text in TEXTS.items()}
SET_UP_LINES = [line for line in LINES["README"] if line.startswith("python3 -m venv")]
COMMANDS = {name: [line for line in lines if line.startswith("vnbench ")] for name, lines in LINES.items()}
LAST_PAGES = {command: name for name, commands in COMMANDS.items() for command in commands}
"""The page that each command is tried with; one that several pages show is tried once."""
ASKED = re.findall(r"`(vnbench [^`]+)`", "".join(re.findall(r"^\|.*\n", README, flags=re.M)))
"""Commands in the README's table of questions, with names in capitals for what is the reader's own."""


def test_two_lines_do_all_the_set_up() -> None:
    main_job, tests = SET_UP_LINES
    assert main_job.endswith("vnbench sweep --widths 3200:12800")
    assert tests.endswith(".venv/bin/pytest -n 3 --dist worksteal")


def test_ci_runs_both_lines_as_they_are_shown() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_line pytest" in script
    assert "readme_line 'vnbench sweep'" in script


def test_every_line_shown_is_one_that_is_tested() -> None:
    for name, lines in LINES.items():
        assert set(lines) == set(COMMANDS[name]) | (set(SET_UP_LINES) if name == "README" else set()), name
    assert COMMANDS["README"]
    assert len(ASKED) >= 9


def test_the_readme_is_one_page() -> None:
    assert len(README.encode()) <= 9000


def test_every_page_is_in_the_list_and_says_in_one_line_what_it_is_for() -> None:
    assert {path.stem for path in GUIDE.glob("*.md")} == set(PAGES)
    for name in PAGES:
        title, empty, summary, end, *_ = TEXTS[name].splitlines()
        assert title.startswith("# "), name
        assert (empty, end) == ("", ""), name
        assert summary.endswith((".", "?")), name


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_page_refers_to_is_there(name: str) -> None:
    folder = ROOT if name == "README" else GUIDE
    targets = re.findall(r"\]\(([^)#]+)\)", TEXTS[name])
    assert [target for target in targets if not target.startswith("http") and not (folder / target).exists()] == []
    assert set(re.findall(r"vnbench guide ([a-z-]+)", TEXTS[name])) <= {*PAGES, "options"}


def reader(folder: Path) -> Path:
    """Return a folder with what the reader of a page has: a repository with a network and a loop of one's own."""
    for name in ("benchmarks", "results"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("sweep*", "__pycache__"))
    shutil.copy(ROOT / "benchmarks" / "own_network.py", folder / "net.py")
    shutil.copy(ROOT / "benchmarks" / "own_loop.py", folder / "train.py")
    write_history(folder / "history")
    for name in ("run", "last_week"):
        lines = "".join(f"{record.to_json()}\n" for record in observed_run())
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    in_repository(folder, "init", "--quiet", "--initial-branch", "main")
    in_repository(folder, "add", "net.py")
    in_repository(folder, "commit", "--quiet", "--message", "a network")
    return folder


def write_history(folder: Path) -> None:
    """Write the shipped sweeps as if each were of a revision of its own."""
    folder.mkdir()
    for number in range(1, 5):
        text = (ROOT / "results" / "cpu-amd-epyc" / f"gate_{number}.jsonl").read_text(encoding="utf-8")
        (folder / f"{number}.jsonl").write_text(text.replace('"7f9fd868221e"', f'"{number:012x}"'), encoding="utf-8")


def in_repository(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=reader", "-c", "user.email=reader@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(LAST_PAGES.values())))
def test_the_commands_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader(tmp_path))
    for command, page in LAST_PAGES.items():
        if page == name:
            assert run(tried(command)) == 0, command


@pytest.mark.slow
def test_the_questions_of_the_readme_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader(tmp_path))
    assert run(["corpus", "mine", "--examples", "6", "--widths", "96:320", "--heights", "32:64"]) == 0
    Path("sizes.csv").write_text("width,height\n" + "640,64\n320,48\n" * 16, encoding="utf-8")
    shutil.copy("results/cpu-amd-epyc/gate_1.jsonl", "candidate.jsonl")
    assert run(["gate", "baseline.json", "candidate.jsonl", "--update"]) == 0
    for command in [one for one in ASKED if one not in LAST_PAGES]:
        own = command.replace("FILE.py:FUNCTION", "benchmarks/own_network.py:build").replace("DIR", "mine")
        assert run(tried(own)) == 0, command


def tried(command: str) -> list[str]:
    """Return the arguments of a command that is shown, on few and small images."""
    arguments = shlex.split(command)[1:]
    if "sweep" in arguments and "guide" not in arguments:
        # Each sweep is run to its end; definitions for a GPU are read and planned here.
        is_for_a_gpu = "--config" in arguments
        arguments += ["--device", "cpu", "--dry-run"] if is_for_a_gpu else few_trials(arguments)
    if arguments[0] in ("sweep", "profile") and "--widths" in arguments:
        # The main job alone is tried at its true sizes, by `.ci/run`: small images go the same way.
        arguments += ["--widths", "96:320", "--heights", "32:64"]
    if arguments[0] in ("drill", "repeat"):
        arguments += ["--kills", "1", "--epochs", "1"] if arguments[0] == "drill" else ["--steps", "2"]
        arguments += ["--examples", "10", "--widths", "96:320", "--heights", "32:64"]
    if "--against" in arguments:
        arguments += AT_ONCE
    if "--card" in arguments and "--snapshot" not in arguments:
        # A forecast traces each step that it is asked for: one is traced like another.
        arguments += ["--widths", "96:320", "--heights", "32:64", "--batch-size", "1"]
        one_cell = ["--precision", "bf16", "--norm-precision", "input", "--checkpointing", "none"]
        arguments += one_cell if arguments[0] == "forecast" else ["--model", "benchmarks/own_network.py:build"]
    return arguments


def test_beside_the_lever_the_guide_says_what_channels_last_pays_on_cuda() -> None:
    (entry,) = (one for one in (GUIDE / "sweep.md").read_text().split("\n- ") if "`--memory-format`" in one)
    assert "two transposes" in " ".join(entry.split())


JOBS = {
    "SLURM": ("\n".join(lines_of(TEXTS["machines"], "sh")), "SLURM_ARRAY_TASK_ID", 1),
    "Kubernetes": (
        "\n".join(re.findall(r"^ {14}(\S.*)$", "\n".join(lines_of(TEXTS["machines"], "yaml")), flags=re.M)),
        "JOB_COMPLETION_INDEX",
        0,
    ),
}
"""Shell lines of each job file, the variable that tells a task its number, and the first number."""


@pytest.mark.parametrize("scheduler", JOBS)
def test_the_lines_of_a_job_ask_for_every_share(scheduler: str, tmp_path: Path) -> None:
    lines, variable, first = JOBS[scheduler]
    command = tmp_path / "vnbench"
    command.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    asked = [
        subprocess.run(
            ["sh", "-c", lines],
            env=environment | {variable: str(first + number)},
            text=True,
            capture_output=True,
            check=True,
        ).stdout.split()
        for number in range(2)
    ]
    assert [one[one.index("--shard") + 1] for one in asked] == ["1/2", "2/2"]
    assert [Path(one[one.index("--out") + 1]).name for one in asked] == ["shard-1.jsonl", "shard-2.jsonl"]
    assert [one[:3] for one in asked] == [["sweep", "--widths", "3200:12800"]] * 2


def test_the_loop_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS["loop"]:
        assert run(shlex.split(command)[1:]) == 0, command
    loop, _, others = TEXTS["loop"].partition("Lightning, Fabric")
    _, _, plan_file = others.partition("Or write the plan")
    decoded: list[str] = []
    opened = Image.open

    def open_image(path: Path) -> Image.Image:
        decoded.extend([path.name] if path.parent.name == "masks" else [])
        return opened(path)

    monkeypatch.setattr(Image, "open", open_image)
    names = [path.name for path in Path("logs", "masks").iterdir()]
    place: dict[str, Any] = {}
    exec("\n".join(lines_of(loop, "python")), place)
    assert sorted(decoded) == sorted(names * 3), "three epochs"
    exec("\n".join(lines_of(plan_file, "python")), place)
    assert sorted(decoded) == sorted(names * 4), "and that of the file"
    for micro_batch in (one for step in place["steps"] for one in step["micro_batches"]):
        images_BCHW, _ = place["collate"]([place["dataset"][index] for index in micro_batch["examples"]])
        assert list(images_BCHW.shape[2:]) == micro_batch["canvas"], "both number the images alike"
    assert_padding_and_passes_change_nothing(place)


def test_the_snapshots_of_the_guide_end_as_a_run_that_was_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS["loop"]:
        assert run(shlex.split(command)[1:]) == 0, command
    loop = "\n".join(lines_of(TEXTS["loop"].partition("Lightning, Fabric")[0], "python"))
    objects = loop.partition("for epoch in range(3):")[0]
    own = "\n".join(lines_of(TEXTS["interruptions"].partition("In Lightning")[0], "python"))

    def trained(folder: str, *, kill_at: int | None = None) -> list[float]:
        """Train from the last snapshot of a folder; weights, or none where SIGTERM came in a step from 1 on."""
        place: dict[str, Any] = {}
        exec("import torch; torch.manual_seed(0)\n" + objects, place)
        step = place["optimizer"].step

        def counted() -> None:
            nonlocal kill_at
            step()
            kill_at = kill_at and kill_at - 1
            if kill_at == 0:
                os.kill(os.getpid(), signal.SIGTERM)

        place["optimizer"].step = counted
        with pytest.raises(SystemExit, match="the same command goes on") if kill_at else nullcontext():
            exec(own.replace('"snapshots"', f'"{folder}"'), place)
            return [float(one.detach().double().sum()) for one in place["network"].parameters()]
        return []

    whole = trained("whole")
    assert whole
    assert trained("parts", kill_at=2) == []
    assert trained("parts", kill_at=4) == []
    assert trained("parts") == whole


def assert_padding_and_passes_change_nothing(place: Mapping[str, Any]) -> None:
    """Check the loop's own functions: with a convolution, whose padding is white, passes of any size are alike."""
    examples = [place["dataset"][index] for index in range(4)]
    assert len({image.shape for image, _ in examples}) > 1
    gradients = []
    for num_examples in (1, 4):
        network = copy.deepcopy(place["network"]).double()  # in fp32 the order of sums shows
        network.zero_grad()
        for start in range(0, 4, num_examples):
            images_BCHW, masks_BHW = place["collate"](examples[start : start + num_examples])
            assert (images_BCHW.shape[1], images_BCHW.shape[2:]) == (1, masks_BHW.shape[1:])
            (place["loss_sum"](network(images_BCHW.double()), masks_BHW) / 4).backward()
        gradients.append(network.weight.grad)
    torch.testing.assert_close(*gradients)


def few_trials(arguments: Sequence[str]) -> list[str]:
    """Return what leaves a sweep the axes that its command names, on the least of images and steps."""
    one_cell = {"--batch-size": "1", "--precision": "fp32", "--norm-precision": "fp32", "--checkpointing": "none"}
    if "--find-max-batch" in arguments:
        return ["--memory-limit", "160MiB", "--time-budget", "10h", *chain.from_iterable(list(one_cell.items())[1:])]
    one_cell |= {"--sampler": "bucketed", "--num-workers": "0"}
    if "--shard" in arguments:
        one_cell["--checkpointing"] = "none,stages"  # a group for each of two shares
    few = ["--time-budget", "10h"]  # no clock decides what is measured
    few += ["--subset", "2", "--max-epochs", "1", "--replicates", "1", "--reference-runs", "1", "--max-attempts", "1"]
    few += ["--compute-sizes", "2", "--min-steps", "2", "--max-steps", "2", "--warm-up-steps", "1"]
    few += [] if {"--corpus", "--images"} & {*arguments} else ["--examples", "4"]
    return [*few, *chain.from_iterable(item for item in one_cell.items() if item[0] not in arguments)]


AT_ONCE = shlex.split("--device cpu --kind memory --metrics status,memory,padding --batch-size 1")
"""What no clock decides, in one block."""

PIPELINES = {
    "GitHub": re.findall(r"^ +- run: (.*)$", "\n".join(lines_of(TEXTS["gate"], "yaml")), flags=re.M),
    "GitLab": re.findall(r"^    - (.*)$", "\n".join(lines_of(TEXTS["gate"], "yaml")), flags=re.M),
}
"""Shell lines of the pipelines that the guide shows."""

PIP = f"""\
#!/bin/sh
test "$1" = install && test -d "$2" || exit 9
cat > .venv/bin/vnbench <<'END'
#!/bin/sh
exec {sys.executable} -m vnbench "$@" {shlex.join(AT_ONCE)} --widths 96:320 --heights 32:64
END
chmod +x .venv/bin/vnbench
"""
"""A pip that finds vnbench installed, and asks it for little."""


@pytest.mark.slow
@pytest.mark.parametrize("host", PIPELINES)
def test_the_lines_of_a_pipeline_measure_and_gate(host: str, tmp_path: Path) -> None:
    origin, work, tools = tmp_path / "origin", tmp_path / "work", tmp_path / "tools"
    origin.mkdir()
    reader(origin)
    subprocess.run(["git", "clone", "--quiet", str(origin), str(work)], check=True, capture_output=True)
    (work / "gate.toml").write_text("\n".join(lines_of(TEXTS["gate"], "toml")), encoding="utf-8")
    (work / "net.py").write_text((work / "net.py").read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    tools.mkdir()
    (tools / "python3").write_text(
        f"#!/bin/sh\nmkdir -p .venv/bin && cat > .venv/bin/pip <<'PIP'\n{PIP}PIP\nchmod +x .venv/bin/pip\n",
        encoding="utf-8",
    )
    (tools / "python3").chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")},
        "PATH": f"{tools}:{os.environ['PATH']}",
        "VNBENCH": str(ROOT),
        "GITHUB_BASE_REF": "main",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "PYTHONPATH": str(ROOT),
    }
    assert any("vnbench gate --against" in line for line in PIPELINES[host])
    for line in PIPELINES[host]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=work, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert "its text changed" in done.stdout
    assert (work / "gate.xml").read_text(encoding="utf-8").startswith("<?xml")
    if host == "GitLab":
        assert (work / "gate.json").read_text(encoding="utf-8").startswith("[")
