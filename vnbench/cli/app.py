"""The command line: options in, one stage's call each, exit code out.

Exit codes: 0 done, 1 regression found (gate) or loop broken (audit), 2 bad usage or bad input, 3 nothing measured or
undecided, 130 interrupted; ``__main__`` makes 70 of an error that nobody foresaw. Modules that import numpy, pandas or
matplotlib are imported by the command that needs them, so that ``vnbench --help`` answers at once.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
from click.shell_completion import shell_complete

from vnbench.cli.arguments import (
    FILE,
    HELP_NAMES,
    Command,
    PanelOption,
    as_json,
    corpus_id,
    print_json,
    results,
    taken,
    texts_of,
)
from vnbench.cli.gate import gate, trial
from vnbench.cli.plan import plan
from vnbench.cli.report import export, plot, report
from vnbench.cli.sweep import sweep
from vnbench.errors import VnbenchError
from vnbench.meant import closest
from vnbench.processes.interrupts import INTERRUPTED, Interrupts
from vnbench.request.option import SEVERAL, parsed
from vnbench.request.options import (
    AUDIT_OPTIONS,
    BATCHING_OPTIONS,
    CORPUS_OPTIONS,
    DRILL_OPTIONS,
    FORECAST_OPTIONS,
    OF_MASKS,
    OPTIONS,
    PROFILE_OPTIONS,
    REPEAT_OPTIONS,
)
from vnbench.units import count


def _tell_version(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        try:
            print("vnbench", importlib.metadata.version("vnbench"))
        except importlib.metadata.PackageNotFoundError:
            print("vnbench, from a source tree that is not installed")
        ctx.exit()


COMPLETES = "_VNBENCH_COMPLETE"
"""Variable by which a shell asks for completions, or for the script that does."""


class Commands(click.Group):
    """The commands, listed in the order in which one comes to need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which commands were added."""
        return list(self.commands)


FIRST_WORDS = """\
vnbench measures the cost of training a segmentation network on images of very different sizes.
Measure:       vnbench sweep --widths 3200:12800      (--dry-run shows what and how long, --images DIR takes yours)
Plan a run:    vnbench plan --examples 15000 --epochs 50
This machine:  vnbench env
All commands:  vnbench --help                         the guide: vnbench guide\
"""
"""What ``vnbench`` alone says."""


COMPLETION = 'Shell completion: eval "$(_VNBENCH_COMPLETE=bash_source vnbench)" (zsh: zsh_source; fish: fish_source)'
"""How completion is switched on, in one line."""


@click.group("vnbench", cls=Commands, epilog=COMPLETION, context_settings=HELP_NAMES)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_tell_version,
    help="Show the version and exit.",
)
def app() -> None:
    """Measure the cost of training a segmentation network on images of very different sizes."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line on these arguments and return its exit code."""
    if COMPLETES in os.environ:
        return shell_complete(app, {}, "vnbench", COMPLETES, os.environ[COMPLETES])
    if not arguments:
        print(FIRST_WORDS)
        return 2
    interrupts = Interrupts()
    try:
        with interrupts, app.make_context("vnbench", list(arguments), obj=interrupts) as context:
            result = app.invoke(context)
    except VnbenchError as error:
        print(f"vnbench: {error}", file=sys.stderr)
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        print(f"vnbench: {_usage_message(error, arguments)}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception:
        # Extensions that Ctrl-C hits raise what they like; anything else is a fault of ours, and is not hidden.
        if interrupts.have_come:
            return INTERRUPTED
        raise
    return result if isinstance(result, int) else 0


for one in (sweep, plan, plot, report, export, gate, trial):
    app.add_command(one)


@app.command(
    "fit",
    cls=Command,
    short_help="Fit step time against padded pixels.",
    examples=("vnbench fit results/sweep.jsonl", "vnbench fit results --json"),
)
@results
@corpus_id
@as_json
def fit(*, results: tuple[Path, ...], corpus_id: str | None, as_json: bool) -> int:
    """Fit step time against padded pixels, and tell how far the fit is off."""
    from vnbench.commands.fit import run_fit_command

    report = run_fit_command(results, corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return 0


@app.command(
    "batching",
    cls=Command,
    short_help="Account for the padding of an epoch, without training.",
    params=taken(
        BATCHING_OPTIONS,
        first=("widths", "sizes", "examples", "batch-size", "sampler"),
        needed=("batch-size", "sampler"),
    ),
    examples=(
        "vnbench batching --widths 3200:12800 --examples 12000 --batch-size 16 --sampler random,bucketed",
        "vnbench batching --sizes sizes.csv --batch-size 16 --sampler bucketed --plan-out plan.jsonl",
    ),
)
@as_json
def batching(*, as_json: bool, **given: Any) -> int:
    """Account for the padding of one epoch's batches, without training."""
    from vnbench.commands.batching import batching_accounts, describe_accounts
    from vnbench.output.console import tell

    accounts = batching_accounts(texts_of(BATCHING_OPTIONS, given))
    if as_json:
        print_json(accounts[0] if len(accounts) == 1 else {"accounts": accounts})
    else:
        tell([describe_accounts(accounts)])
    return 0


@app.command(
    "forecast",
    cls=Command,
    short_help="Forecast a run on a GPU that is not at hand.",
    params=taken(FORECAST_OPTIONS),
    examples=(
        "vnbench forecast --widths 3200:12800 --card h200,24GiB",
        "vnbench forecast --snapshot snapshot.pickle --card 24GiB --allocator native,expandable-segments",
    ),
)
@click.argument("results", metavar="[RESULTS...]", nargs=-1, type=FILE)
@as_json
def forecast(*, results: tuple[Path, ...], as_json: bool, **given: Any) -> int:
    """Forecast memory and time on a GPU that is not at hand, from a traced step or a recording of allocations.

    RESULTS are measured trials of the same cards, if there are any, to show beside the forecasts.
    """
    from vnbench.commands.forecast.asked import run_forecast_command

    report = run_forecast_command(texts_of(FORECAST_OPTIONS, given), results=results, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "profile",
    cls=Command,
    short_help="Show which parts of a step take the memory.",
    params=taken(PROFILE_OPTIONS),
    examples=(
        "vnbench profile --widths 3200:12800 --micro-batch-size 1,2",
        "vnbench profile --widths 3200:12800 --precision fp32,bf16 --out profiles",
    ),
)
@click.option("--out", metavar="DIR", type=FILE, help="Folder for figures and details.")
@as_json
def profile(*, out: Path | None, as_json: bool, **given: Any) -> int:
    """Show which parts of a worst-case step take the memory, by stage of the network and by kind of tensor."""
    from vnbench.commands.profile import run_profile_command

    report = run_profile_command(texts_of(PROFILE_OPTIONS, given), out=out, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "corpus",
    cls=Command,
    short_help="Write synthetic images, or describe a folder of yours.",
    params=taken(CORPUS_OPTIONS),
    examples=(
        "vnbench corpus scans --describe",
        "vnbench corpus synthetic --examples 40 --widths 320:1280 --heights 48:64",
    ),
)
@click.argument("directory", metavar="DIR", type=FILE)
@click.option("--describe", is_flag=True, help="Describe the images in DIR; write none.")
@as_json
def corpus(*, directory: Path, describe: bool, as_json: bool, **given: Any) -> int:
    """Write synthetic images of well logs with their masks, or describe the images and masks of a folder."""
    from vnbench.commands.corpus import write_corpus
    from vnbench.commands.describe import describe_corpus_files
    from vnbench.errors import InputError
    from vnbench.output.console import tell
    from vnbench.output.tables.corpus import corpus_lines

    texts = texts_of(CORPUS_OPTIONS, given)
    if describe:
        asked = [name for name, text in texts.items() if text is not None]
        if unused := [f"--{name}" for name in asked if name not in OF_MASKS]:
            raise InputError("--describe", allowed="it writes no images", remedy=f"leave {', '.join(unused)} out")
        summary = describe_corpus_files(directory, parsed(CORPUS_OPTIONS, texts)).to_json()
        lines = corpus_lines(summary)
    else:
        summary = write_corpus(directory, texts)
        lines = [f"{count(summary['num_examples'], 'image')} in {summary['directory']}"]
    if as_json:
        print_json(summary)
    else:
        tell(lines)
    return 0


@app.command(
    "env",
    cls=Command,
    short_help="Show what this machine is and what would disturb it.",
    params=taken({"device": OPTIONS["device"]}),
    examples=("vnbench env", "vnbench env --json"),
)
@as_json
def env(*, device: str | None, as_json: bool) -> int:
    """Show what this machine is, which precisions it computes natively, and what would disturb a measurement on it."""
    from vnbench.measure.activity import watch_activity
    from vnbench.output.console import tell
    from vnbench.output.environment import environment_lines, find_disturbances
    from vnbench.sweep.runner import probe_environment, time_convolutions

    environment = probe_environment(OPTIONS["device"].parse(device or "auto", "--device"))
    environment["convolution_s"] = time_convolutions(environment)
    activity = watch_activity(environment["device_uuid"])
    disturbances = list(find_disturbances(environment, activity=activity))
    if as_json:
        print_json(environment | {"now": activity, "disturbances": [found.to_json() for found in disturbances]})
        return 0
    tell(environment_lines(environment, activity=activity, disturbances=disturbances))
    return 0


@app.command(
    "audit",
    cls=Command,
    short_help="Tell whether a training loop does what it says.",
    params=taken(AUDIT_OPTIONS),
    examples=("vnbench audit train.py:train", "vnbench audit train.py:train --task binary --json"),
)
@click.argument("loop", metavar="FILE.py:FUNCTION")
@click.option("--out", metavar="FILE.jsonl", type=FILE, help="Results file that gets the record.")
@as_json
def audit(*, loop: str, out: Path | None, as_json: bool, **given: Any) -> int:
    """Tell which backward passes flow into which optimizer step of a training loop, and what is wrong with it.

    FUNCTION(model, optimizer, batches) trains on a list of at least 8 batches (images, targets, valid), as it likes.
    """
    from vnbench.commands.audit import run_audit_command

    report = run_audit_command(os.path.expanduser(loop), texts_of(AUDIT_OPTIONS, given), out=out, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "repeat",
    cls=Command,
    short_help="Train the same twice, and tell whether it is equal to the bit.",
    params=taken(REPEAT_OPTIONS),
    examples=("vnbench repeat --steps 50", "vnbench repeat --images DIR --precision bf16 --runs 3 --json"),
)
@as_json
def repeat(*, as_json: bool, **given: Any) -> int:
    """Train the same steps in fresh processes, and name the first step, module and parameter that differ.

    The exit code is 1 where something does.
    """
    from vnbench.commands.repeat import run_repeat_command

    report = run_repeat_command(texts_of(REPEAT_OPTIONS, given), as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "merge",
    cls=Command,
    short_help="Join the files of a sweep that several machines shared.",
    examples=(
        "vnbench merge shard-1.jsonl shard-2.jsonl --out sweep.jsonl",
        "vnbench merge shards/shard-3.jsonl --out part.jsonl --json",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--out", metavar="FILE.jsonl", type=FILE, required=True, help="New results file.")
@as_json
def merge(*, files: tuple[Path, ...], out: Path, as_json: bool) -> int:
    """Join what vnbench sweep --shard I/N measured on several machines, and name what is missing.

    The exit code is 3 where something is.
    """
    from vnbench.commands.merge import run_merge_command

    report = run_merge_command(files, out=out, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "drill",
    cls=Command,
    short_help="Kill a training run again and again, and see what that costs.",
    params=taken(DRILL_OPTIONS),
    examples=("vnbench drill --kills 20", "vnbench drill --images DIR --kills 5 --snapshot-target /mnt/disk --json"),
)
@as_json
def drill(*, as_json: bool, **given: Any) -> int:
    """Train with snapshots, kill the run at random moments, go on, and compare its end with a run never killed.

    The exit code is 1 where a snapshot was lost, or the run did not end equal to the bit.
    """
    from vnbench.commands.drill import run_drill_command

    report = run_drill_command(texts_of(DRILL_OPTIONS, given), as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command(
    "guide",
    cls=Command,
    short_help="Show a page of the guide, or the list of pages.",
    examples=("vnbench guide", "vnbench guide memory"),
)
@click.argument("topic", required=False)
def guide(*, topic: str | None) -> int:
    """Show a page of the guide, or without TOPIC the list of pages. In a pipe a page is plain Markdown."""
    from vnbench.commands.guide import guide_page
    from vnbench.output.console import show_page

    show_page(guide_page(topic))
    return 0


def _usage_message(error: click.ClickException, arguments: Sequence[str]) -> str:
    """Return a usage error in the four parts of every other message."""
    commands = [name for name, command in app.commands.items() if not command.hidden]
    command = next((argument for argument in arguments if argument in commands), None)
    help_command = f"vnbench {command} --help" if command else "vnbench --help"
    parameters = app.commands[command].params if command else app.params
    if isinstance(error, click.NoSuchOption):
        close = closest(error.option_name, [name for one in parameters for name in one.opts if name.startswith("--")])
        hint = f"write {close}" if close else f"see {help_command}"
        return f"{error.option_name}: there is no such option; {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{_written(error.param)}: it is required{_choices(error.param)}; see {help_command}"
    if isinstance(error, click.UsageError) and "unexpected extra argument" in error.message:
        option = next((one for one in parameters if _is_followed_by_several(one, arguments)), None)
        if option is not None:
            values = _values_after(option.opts[0], arguments)
            told = f"{option.opts[0]} {' '.join(values)}: "
            return f"{told}several values are one comma list; write {option.opts[0]} {','.join(values)}"
    if isinstance(error, click.BadOptionUsage):
        option = next((one for one in parameters if error.option_name in one.opts), None)
        if option is not None and "requires an argument" in error.message:
            return f"{error.option_name}: it needs a value; write {_written(option)}"
    if command is None and arguments and not arguments[0].startswith("-"):
        close = closest(arguments[0], commands)
        hint = f"write vnbench {close}" if close else f"see {help_command}"
        return f"{arguments[0]}: there is no such command; commands are {', '.join(commands)}; {hint}"
    return f"{error.format_message().rstrip('.')}; see {help_command}"


def _choices(parameter: click.Parameter) -> str:
    """Return the words that a parameter takes, where they are fixed."""
    words = parameter.declared.choices if isinstance(parameter, PanelOption) else ()
    return f", one {'or several ' if _takes_several(parameter) else ''}of {', '.join(words)}" if words else ""


def _takes_several(parameter: click.Parameter) -> bool:
    return isinstance(parameter, PanelOption) and parameter.declared.metavar.endswith(SEVERAL)


def _is_followed_by_several(parameter: click.Parameter, arguments: Sequence[str]) -> bool:
    """Return whether a parameter that takes a comma list was given its values as words of their own."""
    return _takes_several(parameter) and len(_values_after(parameter.opts[0], arguments)) > 1


def _values_after(flag: str, arguments: Sequence[str]) -> list[str]:
    after = arguments[arguments.index(flag) + 1 :] if flag in arguments else ()
    return list(takewhile(lambda word: not word.startswith("-"), after))


def _written(parameter: click.Parameter) -> str:
    """Return a parameter as one writes it."""
    flag = parameter.opts[0] if isinstance(parameter, click.Option) else ""
    return f"{flag} {parameter.metavar or ''}".strip()
