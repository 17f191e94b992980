"""The command line: options in, one stage's call each, exit code out.

Exit codes: 0 done, 1 regression found (gate), 2 bad usage or bad input, 3 nothing measured or undecided, 130
interrupted. Modules that import numpy, pandas or matplotlib are imported by the command that needs them, so that
``vnbench --help`` answers at once.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vnbench.cli.arguments import (
    SAMPLERS_HELP,
    AsJson,
    CorpusId,
    Heights,
    Seed,
    SizeLaw,
    Sizes,
    Text,
    Widths,
    print_json,
)
from vnbench.cli.gate import gate, trial
from vnbench.cli.plan import plan
from vnbench.cli.report import plot, report
from vnbench.cli.sweep import sweep
from vnbench.errors import VnbenchError
from vnbench.processes.interrupts import INTERRUPTED, Interrupts

app = typer.Typer(
    name="vnbench",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measure what training a segmentation network on images of very different sizes costs.",
)


def run(arguments: Sequence[str]) -> int:
    """Run the command line on these arguments and return its exit code."""
    interrupts = Interrupts()
    try:
        with interrupts:
            result = app(args=list(arguments), standalone_mode=False, prog_name="vnbench")
    except VnbenchError as error:
        print(f"vnbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if interrupts.have_come:
            return INTERRUPTED
        # Typer raises click's exceptions, and from 0.2x on those of its own copy of click: their methods tell them.
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2
        if not hasattr(error, "format_message"):
            raise
        print(f"vnbench: {_usage_message(error, arguments)}", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


app.command()(sweep)
app.command()(plan)
app.command()(plot)
app.command()(report)
app.command()(gate)
app.command(hidden=True)(trial)


@app.command()
def fit(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Results files.")],
    corpus_id: CorpusId = None,
    as_json: AsJson = False,
) -> int:
    """Fit step time against padded pixels, and say how far the model is off."""
    from vnbench.commands.fit import run_fit_command

    report = run_fit_command(results, corpus_id=corpus_id, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return 0


@app.command()
def batching(
    batch_size: Annotated[str, typer.Option(metavar="N", help="Examples per optimizer step.")],
    sampler: Annotated[str, typer.Option(metavar="NAME", help=SAMPLERS_HELP)],
    widths: Widths = None,
    heights: Heights = None,
    size_law: SizeLaw = None,
    examples: Annotated[Text, typer.Option(metavar="N", help="Number of images drawn from --widths.")] = None,
    sizes: Sizes = None,
    micro_batch_size: Annotated[Text, typer.Option(metavar="N", help="Examples per pass. [the batch]")] = None,
    pixel_budget: Annotated[
        Text, typer.Option(metavar="PIXELS", help="Of a pass under pixel-budget. [micro-batch x the largest canvas]")
    ] = None,
    shapes: Annotated[Text, typer.Option(metavar="N", help="Canvases at most, or any. [any]")] = None,
    ranks: Annotated[Text, typer.Option(metavar="N", help="Share each step among this many processes.")] = None,
    epoch: Annotated[Text, typer.Option(metavar="N", help="Epoch to account for. [2]")] = None,
    resume: Annotated[Text, typer.Option(metavar="FILE", help="State of a run: what remains of its epoch.")] = None,
    plan_out: Annotated[Text, typer.Option(metavar="FILE.jsonl", help="Write the plan: a state, then steps.")] = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> int:
    """Account for the padding of one epoch's batches, without training."""
    from vnbench.commands.batching import batching_account, describe_account
    from vnbench.request.options import PLAN_OPTIONS

    given = locals()
    sizes_names = ("widths", "heights", "size-law", "examples", "sizes", "seed")
    names = (*sizes_names, "batch-size", "micro-batch-size", "sampler", "shapes", *PLAN_OPTIONS)
    account = batching_account({name: given[name.replace("-", "_")] for name in names})
    if as_json:
        print_json(account)
    else:
        print(describe_account(account))
    return 0


@app.command()
def profile(
    widths: Widths = None,
    heights: Heights = None,
    micro_batch_size: Annotated[Text, typer.Option(metavar="N,...", help="Examples of the worst case. [1]")] = None,
    precision: Annotated[Text, typer.Option(metavar="NAME,...", help="fp32, tf32, bf16, fp16.")] = None,
    norm_precision: Annotated[Text, typer.Option(metavar="NAME,...", help="fp32, input.")] = None,
    checkpointing: Annotated[Text, typer.Option(metavar="NAME,...", help="none, stages, selective.")] = None,
    memory_format: Annotated[Text, typer.Option(metavar="NAME,...", help="contiguous, channels-last.")] = None,
    optimizer: Annotated[Text, typer.Option(metavar="NAME,...", help="Loop: fused, foreach, for-loop.")] = None,
    padding: Annotated[Text, typer.Option(metavar="NAME,...", help="plain; exact: layers leave it out.")] = None,
    norm_kernel: Annotated[Text, typer.Option(metavar="NAME,...", help="Of GroupNorm: native, split.")] = None,
    task: Annotated[Text, typer.Option(metavar="NAME", help="multiclass or binary. [multiclass]")] = None,
    model: Annotated[Text, typer.Option(metavar="NAME", help="veernet or veernet-tiny.")] = None,
    device: Annotated[Text, typer.Option(metavar="NAME", help="auto, cuda or cpu. [auto]")] = None,
    memory_limit: Annotated[Text, typer.Option(metavar="SIZE", help="Memory of the step, as 8GiB. [all]")] = None,
    trial_timeout: Annotated[Text, typer.Option(metavar="TIME", help="End a step that runs longer. [10m]")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for figures and details.")] = None,
    as_json: AsJson = False,
) -> int:
    """Tell the memory of one worst-case training step apart, stage by stage and kind by kind."""
    from vnbench.commands.profile import PROFILE_OPTIONS, run_profile_command

    given = locals()
    flags = {name: given[name.replace("-", "_")] for name in PROFILE_OPTIONS}
    report = run_profile_command(flags, out=out, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code


@app.command()
def corpus(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, or to describe.")],
    examples: Annotated[Text, typer.Option(metavar="N", help="Number of images.")] = None,
    widths: Widths = None,
    heights: Heights = None,
    size_law: SizeLaw = None,
    sizes: Sizes = None,
    task: Annotated[Text, typer.Option(metavar="NAME", help="multiclass or binary. [multiclass]")] = None,
    image_format: Annotated[
        Text, typer.Option(metavar="NAME,...", help="Beside png: tiff-g4, tiff-deflate, tiff-zstd.")
    ] = None,
    seed: Seed = None,
    describe: Annotated[bool, typer.Option("--describe", help="Say what the images there are; write none.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write synthetic raster logs with their masks and a manifest, or describe those of a folder."""
    from vnbench.commands.corpus import write_corpus
    from vnbench.commands.describe import describe_corpus_files
    from vnbench.errors import InputError
    from vnbench.output.tables.corpus import corpus_lines

    given = locals()
    names = ("widths", "heights", "size-law", "examples", "sizes", "task", "image-format", "seed")
    flags = {name: given[name.replace("-", "_")] for name in names}
    if describe:
        if asked := [f"--{name}" for name, text in flags.items() if text is not None]:
            raise InputError("--describe", allowed="it writes no images", remedy=f"leave {', '.join(asked)} out")
        summary = describe_corpus_files(directory).to_json()
        lines = corpus_lines(summary)
    else:
        summary = write_corpus(directory, flags)
        lines = [f"{summary['num_examples']} images in {summary['directory']}"]
    if as_json:
        print_json(summary)
    else:
        print("\n".join(lines))
    return 0


@app.command()
def env(
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cuda or cpu.")] = "auto",
    as_json: AsJson = False,
) -> int:
    """Tell what this machine is, what it computes natively, and what would disturb a measurement on it."""
    from vnbench.measure.activity import watch_activity
    from vnbench.output.environment import environment_lines, find_disturbances
    from vnbench.request.options import OPTIONS
    from vnbench.sweep.runner import probe_environment, time_convolutions

    environment = probe_environment(OPTIONS["device"](device, "--device"))
    environment["convolution_s"] = time_convolutions(environment)
    activity = watch_activity(environment["device_uuid"])
    disturbances = list(find_disturbances(environment, activity=activity))
    if as_json:
        print_json(environment | {"now": activity, "disturbances": [found.to_json() for found in disturbances]})
        return 0
    for line in environment_lines(environment, activity=activity, disturbances=disturbances):
        print(line)
    return 0


def _usage_message(error: Any, arguments: Sequence[str]) -> str:
    """Return a usage error in the four parts of every other message."""
    commands = [
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback and not command.hidden
    ]
    command = next((argument for argument in arguments if argument in commands), None)
    help_command = f"vnbench {command} --help" if command else "vnbench --help"
    unknown = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and unknown:
        from vnbench.request.options import OPTIONS

        close = difflib.get_close_matches(unknown, [f"--{name}" for name in OPTIONS], n=1)
        hint = f"write {close[0]}" if close else f"see {help_command}"
        return f"{unknown}: there is no such option; {hint}"
    message = str(error.format_message()).rstrip(".")
    if message.startswith("No such command"):
        return f"{arguments[0]}: there is no such command, but {', '.join(commands)}; see {help_command}"
    return f"{message}; see {help_command}"
