from __future__ import annotations

import re
import shlex

import click
import pytest

from vnbench.cli import arguments
from vnbench.cli.app import app, run
from vnbench.cli.arguments import PanelOption
from vnbench.request.options import OPTIONS


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(arguments) == 0
    return capsys.readouterr().out


def options_in(text: str) -> list[str]:
    return re.findall(r"^  (--[a-z-]+)", text, flags=re.M)


def test_help_begins_with_the_eight_options_that_are_needed_first_and_then_goes_by_panels(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_of(capsys, "sweep", "--help")
    panels = ("Needed first:", "Images:", "Levers", "Measuring:", "Limits:", "Results:", "Examples:")
    places = [text.index(f"\n{panel}") for panel in panels]
    assert places == sorted(places)
    assert options_in(text[: places[1]]) == [
        f"--{name}"
        for name in ["widths", "images", "model", "batch-size", "precision", "time-budget", "out", "dry-run"]
    ]


def test_levers_are_said_to_take_several_values_only_where_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    told = "\nLevers: one value, or several to compare:\n"
    assert told in help_of(capsys, "sweep", "--help")
    of_one = help_of(capsys, "batching", "--help")
    assert told not in of_one
    assert "\nLevers:\n" in of_one


@pytest.mark.parametrize("command", [[], ["sweep"]])
def test_help_has_a_short_name(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert help_of(capsys, *command, "-h") == help_of(capsys, *command, "--help")


def test_a_command_knows_its_short_help_outside_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.exceptions.Exit):
        app.commands["env"].make_context("env", ["-h"])
    assert "Usage: env" in capsys.readouterr().out


def test_rarely_needed_options_are_counted_on_the_first_page_and_shown_by_help_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = help_of(capsys, "sweep", "--help")
    first, whole = options_in(page), options_in(help_of(capsys, "sweep", "--help-all"))
    assert set(first) < set(whole)
    assert {f"--{name}" for name in OPTIONS} <= set(whole)
    hidden = re.search(r"^(\d+) more options, rarely needed: vnbench sweep --help-all$", page, flags=re.M)
    assert hidden is not None
    assert int(hidden[1]) == len(whole) - len(first)
    assert len(first) < len(whole) / 2


@pytest.mark.parametrize(("device", "told"), [("cuda", "[1,2,4,8,16]"), ("cpu", "[1,2]")])
def test_help_tells_what_the_device_at_hand_takes(
    device: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "device_at_hand", lambda: device)
    text = help_of(capsys, "sweep", "--help")
    assert re.search(rf"--batch-size N,... .*{re.escape(told)}", text)
    assert f"In brackets: the default, on this machine's {'GPU' if device == 'cuda' else 'CPU'}." in text


def test_no_line_of_the_help_breaks_within_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    words = {word for option in OPTIONS.values() for word in option.help_line("cpu").split()}
    told = set(help_of(capsys, "sweep", "--help-all").split())
    assert {word for word in words if "-" in word} <= told


@pytest.mark.parametrize("name", [name for name, command in app.commands.items() if not command.hidden])
def test_every_command_shows_two_examples_that_its_parser_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    section = help_of(capsys, name, "--help").partition("\nExamples:\n")[2]
    examples = section.replace("\\\n", " ").strip().splitlines()
    assert len(examples) == 2
    for example in examples:
        program, command, *words = shlex.split(example)
        assert (program, command) == ("vnbench", name)
        with app.commands[name].make_context(name, words) as context:
            for one in app.commands[name].params:
                text = context.params.get(one.name or "")
                if isinstance(one, PanelOption) and isinstance(text, str):
                    one.declared.parse(text, one.opts[0])


def test_no_example_breaks_between_an_option_and_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    for name, command in app.commands.items():
        if command.hidden:
            continue
        lines = help_of(capsys, name, "--help").partition("\nExamples:\n")[2].splitlines()
        assert not [line for line in lines if re.search(r" --[a-z-]+ \\$", line)], name


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("swe", {"sweep"}),
        ("sweep --find-m", {"--find-max-batch"}),
        ("sweep --precision b", {"bf16"}),
        ("sweep --precision bf16,f", {"bf16,fp32", "bf16,fp16"}),
        ("batching --sampler ra", {"random"}),
        ("gate --on-undecided w", {"warn"}),
        ("sweep --widths 3", set()),
    ],
)
def test_a_shell_completes_commands_options_and_the_words_that_they_take(
    typed: str, completed: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_VNBENCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"vnbench {typed}")
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split())))
    assert run([]) == 0
    found = {line.partition(",")[2] for line in capsys.readouterr().out.split()}
    assert found == completed


def test_a_shell_completes_files_where_an_option_takes_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_VNBENCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vnbench sweep --images sc")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run([]) == 0
    assert capsys.readouterr().out == "file,sc\n"


def test_help_and_guide_say_how_completion_is_switched_on(capsys: pytest.CaptureFixture[str]) -> None:
    line = 'eval "$(_VNBENCH_COMPLETE=bash_source vnbench)"'
    assert line in " ".join(help_of(capsys, "--help").split())
    assert line in " ".join(help_of(capsys, "guide", "sweep").split())
