"""``vnbench sweep`` on the command line: its options, and the call that they make."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from vnbench.cli.arguments import SAMPLERS_HELP, AsJson, Heights, Seed, SizeLaw, Sizes, Text, Widths, print_json


def sweep(
    widths: Widths = None,
    heights: Heights = None,
    size_law: SizeLaw = None,
    sizes: Sizes = None,
    corpus: Annotated[Text, typer.Option(metavar="DIR", help="Image files to train on. [a synthetic corpus]")] = None,
    images: Annotated[Text, typer.Option(metavar="DIR", help="The same: your images and masks, by name.")] = None,
    examples: Annotated[Text, typer.Option(metavar="N", help="Images of the synthetic corpus.")] = None,
    task: Annotated[Text, typer.Option(metavar="NAME", help="multiclass or binary. [multiclass]")] = None,
    batch_size: Annotated[Text, typer.Option(metavar="N,...", help="Examples per optimizer step.")] = None,
    micro_batch_size: Annotated[Text, typer.Option(metavar="N,...", help="Examples per pass, or same. [same]")] = None,
    precision: Annotated[Text, typer.Option(metavar="NAME,...", help="fp32, tf32, bf16, fp16.")] = None,
    norm_precision: Annotated[Text, typer.Option(metavar="NAME,...", help="fp32, input.")] = None,
    checkpointing: Annotated[Text, typer.Option(metavar="NAME,...", help="none, stages, selective.")] = None,
    sampler: Annotated[Text, typer.Option(metavar="NAME,...", help=SAMPLERS_HELP)] = None,
    shapes: Annotated[Text, typer.Option(metavar="N,...", help="Canvases at most, or any. [any]")] = None,
    shape_visits: Annotated[
        Text, typer.Option(metavar="NAME,...", help="warm: canvases seen before; cold: not; auto. [auto]")
    ] = None,
    num_workers: Annotated[Text, typer.Option(metavar="N,...", help="Loader workers.")] = None,
    worker_kind: Annotated[Text, typer.Option(metavar="NAME,...", help="processes, threads.")] = None,
    prefetch_factor: Annotated[Text, typer.Option(metavar="N,...", help="Batches ahead per worker. [2]")] = None,
    pin_memory: Annotated[Text, typer.Option(metavar="NAME,...", help="on, off.")] = None,
    persistent_workers: Annotated[Text, typer.Option(metavar="NAME,...", help="Over epochs: on, off.")] = None,
    cache: Annotated[Text, typer.Option(metavar="NAME,...", help="Of decoded images: none, memory, disk.")] = None,
    cache_limit: Annotated[Text, typer.Option(metavar="SIZE", help="Most that the cache keeps. [4GiB]")] = None,
    image_format: Annotated[
        Text, typer.Option(metavar="NAME,...", help="png, tiff-g4, tiff-deflate, tiff-zstd. [png]")
    ] = None,
    appetite: Annotated[
        Text, typer.Option(metavar="N", help="Examples/s that loading is to feed. [computing's]")
    ] = None,
    memory_format: Annotated[Text, typer.Option(metavar="NAME,...", help="contiguous, channels-last.")] = None,
    compile: Annotated[
        Text, typer.Option(metavar="NAME,...", help="torch.compile: none, default, step (with its loss).")
    ] = None,
    cudnn_benchmark: Annotated[Text, typer.Option(metavar="NAME,...", help="off, on.")] = None,
    allocator: Annotated[Text, typer.Option(metavar="NAME,...", help="native, expandable-segments.")] = None,
    optimizer: Annotated[Text, typer.Option(metavar="NAME,...", help="Loop: fused, foreach, for-loop.")] = None,
    padding: Annotated[Text, typer.Option(metavar="NAME,...", help="plain; exact: layers leave it out.")] = None,
    norm_kernel: Annotated[Text, typer.Option(metavar="NAME,...", help="Of GroupNorm: native, split.")] = None,
    cuda_graphs: Annotated[Text, typer.Option(metavar="NAME,...", help="Replay captured passes: off, on.")] = None,
    model: Annotated[Text, typer.Option(metavar="NAME", help="veernet, veernet-tiny, or FILE.py:FUNCTION.")] = None,
    norm_groups: Annotated[Text, typer.Option(metavar="RULE,...", help="half-or-16, or a number of groups.")] = None,
    device: Annotated[Text, typer.Option(metavar="NAME", help="auto, cuda or cpu. [auto]")] = None,
    design: Annotated[Text, typer.Option(metavar="NAME", help="one-at-a-time, factored, full. [one-at-a-time]")] = None,
    center: Annotated[Text, typer.Option(metavar="AXIS=VALUE,...", help="Centre of one-at-a-time.")] = None,
    kind: Annotated[Text, typer.Option(metavar="NAME,...", help="memory, compute, loader, training.")] = None,
    subset: Annotated[Text, typer.Option(metavar="N", help="Training examples of one measured epoch.")] = None,
    compute_sizes: Annotated[Text, typer.Option(metavar="N", help="Canvases of a compute trial. [9]")] = None,
    warm_up_steps: Annotated[Text, typer.Option(metavar="N", help="Steps before the measured ones.")] = None,
    noise_target: Annotated[Text, typer.Option(metavar="RATIO", help="Measure until the mean is this certain.")] = None,
    min_steps: Annotated[Text, typer.Option(metavar="N", help="Measured steps per canvas, at least.")] = None,
    max_steps: Annotated[Text, typer.Option(metavar="N", help="Measured steps per canvas, at most.")] = None,
    max_epochs: Annotated[Text, typer.Option(metavar="N", help="Measured epochs of the subset, at most.")] = None,
    measuring_time: Annotated[Text, typer.Option(metavar="TIME", help="Cap per canvas or training trial.")] = None,
    replicates: Annotated[Text, typer.Option(metavar="N", help="Processes per timed configuration. [1]")] = None,
    reference_runs: Annotated[Text, typer.Option(metavar="N", help="Processes of the centre, spread out. [3]")] = None,
    max_attempts: Annotated[Text, typer.Option(metavar="N", help="Tries where the machine was disturbed. [3]")] = None,
    time_budget: Annotated[Text, typer.Option(metavar="TIME", help="End within this time, as 10m.")] = None,
    trial_timeout: Annotated[Text, typer.Option(metavar="TIME", help="End a trial that runs longer. [10m]")] = None,
    worker_timeout: Annotated[Text, typer.Option(metavar="TIME", help="A silent loader worker hangs. [2m]")] = None,
    retry: Annotated[Text, typer.Option(metavar="STATUS,...", help="Try these again, as crashed,timeout.")] = None,
    soak: Annotated[Text, typer.Option(metavar="ORDER,...", help="Passes before the worst case. [none]")] = None,
    memory_by: Annotated[Text, typer.Option(metavar="NAME", help="step: run it; trace: count only. [step]")] = None,
    memory_limit: Annotated[Text, typer.Option(metavar="SIZE", help="Memory of each trial, as 8GiB. [all]")] = None,
    find_max_batch: Annotated[bool, typer.Option("--find-max-batch", help="Search the largest micro-batch.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no figures; vnbench plot does so later.")] = False,
    price_per_hour: Annotated[Text, typer.Option(metavar="AMOUNT", help="Adds cost per epoch to the table.")] = None,
    seed: Seed = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Options in a file; flags win.")] = None,
    out: Annotated[Text, typer.Option(metavar="FILE.jsonl", help="Results file. [by device and corpus]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be measured; write nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Measure step time, worst-case peak memory and padding waste over batch, precision and other levers."""
    from vnbench.processes.parent import start_server
    from vnbench.request.options import OPTIONS, SWITCHES
    from vnbench.request.reading import read_request

    given = locals()
    flags = {name: given[name.replace("-", "_")] for name in OPTIONS}
    flags |= {name: "yes" if flags[name] else None for name in SWITCHES}
    # A sweep that is told to end (a scheduler's SIGTERM) ends as it does on Ctrl-C: its finished trials are kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = read_request(flags, config_path=config)
    start_server()  # which imports torch meanwhile

    from vnbench.commands.sweep.sweep import run_sweep_command

    report = run_sweep_command(request, dry_run=dry_run, as_json=as_json)
    if as_json:
        print_json(report.to_json())
    return report.exit_code
