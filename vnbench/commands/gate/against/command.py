"""``vnbench gate --against REV|DIR``: the working folder against a revision of it, both measured now, in turn."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from vnbench.analysis.comparison.blocks import PairedSpec
from vnbench.analysis.comparison.compare import Comparison
from vnbench.analysis.comparison.sides import Side, side_of
from vnbench.commands.corpus import CorpusPlan, plan_corpus, prepare_corpus
from vnbench.commands.gate.against.environments import homes_of
from vnbench.commands.gate.against.kept import kept_in_use
from vnbench.commands.gate.against.measure import BlockPlan, measure_blocks
from vnbench.commands.gate.against.revisions import WHERE, Tree, baseline_tree, candidate_tree
from vnbench.commands.gate.gate import GateOptions, GateReport, tell
from vnbench.commands.gate.worker import Worker
from vnbench.commands.sweep.probe import workload_of
from vnbench.commands.sweep.sweep import designer
from vnbench.errors import InputError
from vnbench.output.block_plan import DryRun
from vnbench.output.block_progress import SIDES, BlockProgress
from vnbench.output.console import say, stderr_console
from vnbench.records.machine_keys import SPEED_KEYS, Environment, fact_text
from vnbench.records.placement import place_results
from vnbench.records.readings import Metric
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile, load_results
from vnbench.records.task import TrialTask
from vnbench.request.config import SweepConfig, complete
from vnbench.request.own_model import NEUTRAL, OwnModel, is_own_model, read_own_model
from vnbench.request.reading import read_request
from vnbench.sweep.estimate import Pace, TrialTimes

DEFINITIONS = Path(__file__).parent / "definitions"
"""What is measured where no option says so, a file per type of device."""

UNUSED = ("find-max-batch", "replicates", "reference-runs", "time-budget", "retry", "max-attempts")
"""Options of a sweep that blocks have no use for."""

SIZED_BY = {"widths", "sizes", "images", "corpus"}
"""Options that say what is measured: with one of them the definition that ships is not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgainstOptions:
    """What the candidate is compared with, and what is measured."""

    against: str
    """A folder, or a revision of the repository that the working folder lies in."""
    flags: Mapping[str, str | None]
    """Options of a sweep by name; None for those that were not given."""
    config: Path | None
    """File of such options."""
    out: Path | None
    """Folder of the records; None for one that is named after both sides."""
    time_cap_s: float
    """No pair of trials begins after so many seconds."""

    @property
    def is_sized(self) -> bool:
        """Whether the user says what is measured, rather than a definition that ships."""
        return self.config is not None or any(self.flags.get(name) is not None for name in SIZED_BY)


@kept_in_use()
def run_against_command(asked: AgainstOptions, *, options: GateOptions) -> GateReport:
    """Measure the working folder and its baseline in turn until they are told apart or found alike; tell of it.

    Raises:
        InputError: the input cannot be used.
        ChildError: a side does not run.
        KeyboardInterrupt: the user ended it; what had finished is in the results files.
    """
    console = stderr_console()
    baseline, candidate = trees = _trees(asked)
    homes = homes_of(baseline, candidate, tell=lambda line: say(console, line))
    for name, tree in zip(SIDES, trees, strict=True):
        say(console, f"{name}: {tree.told}")
    if baseline.root == candidate.root or baseline.name == candidate.name:
        say(console, "warning: both sides are the same: only noise can tell them apart")
    with Worker(homes[0]) as of_baseline, Worker(homes[1]) as of_candidate:
        comparison, files, specs = _measured(
            asked, options, trees=trees, workers=(of_baseline, of_candidate), console=console
        )
    sides = [
        _side([record for record in file.records if record.spec_id in {one.sides[side].spec_id for one in specs}], tree)
        for side, (file, tree) in enumerate(zip(files, trees, strict=True))
    ]
    report = GateReport(comparison=comparison, on_undecided=options.on_undecided)
    tell(report, options=options, console=console, sides=(sides[0], sides[1]), paths=(files[0].path, files[1].path))
    return report


def plan_against(asked: AgainstOptions, *, metrics: Collection[Metric]) -> DryRun:
    """Return what ``run_against_command`` would measure, and with what. Nothing is measured, and nothing is kept.

    Raises:
        InputError: the input cannot be used.
        ChildError: the candidate does not run.
    """
    notes: list[str] = []
    with TemporaryDirectory(prefix="vnbench-") as scratch:
        trees = _trees(asked, into=Path(scratch))
        homes = homes_of(*trees, tell=notes.append, is_dry_run=True)
        with Worker(homes[1]) as worker:
            environment = worker.environment(asked.flags.get("device") or "auto")
        config = _config(asked, environment, candidate=trees[1])
        corpus = plan_corpus(config)
        specs = _paired_specs(config, corpus, environment, trees=trees)
    out = _out(asked, trees)
    earlier = [
        record
        for record in _earlier(out if asked.out else out.parent)
        if record.corpus_id in (None, corpus.corpus_id)
        and record.environment.get("device_name") == environment.get("device_name")
    ]
    shipped = "" if asked.is_sized else f"the definition that ships for {environment['device_type']}"
    return DryRun(
        sides=(trees[0].told, trees[1].told),
        pythons=(homes[0].python, homes[1].python),
        notes=(*notes, *corpus.notes),
        definition=shipped or (f"what {asked.config} says" if asked.config else "what the options say"),
        specs=specs,
        has_times="time" in metrics,
        corpus=corpus.describe(corpus.measured_examples(one.candidate for one in specs)),
        times=TrialTimes(workload=workload_of(corpus), pace=Pace.rough(specs[0].candidate), finished=earlier),
        is_known=bool(earlier),
        time_cap_s=asked.time_cap_s,
        out=out,
    )


def _trees(asked: AgainstOptions, *, into: Path | None = None) -> tuple[Tree, Tree]:
    """Return the baseline and the candidate; files of a revision go to ``into``, by default the user's cache.

    Raises:
        InputError: the baseline is nothing to compare with, or an option has no use here.
    """
    if unused := [name for name in UNUSED if asked.flags.get(name) is not None]:
        raise InputError(
            f"--{unused[0]}",
            allowed=f"{WHERE} measures block by block until it is decided",
            remedy=f"leave {', '.join(f'--{name}' for name in unused)} out; --time-cap limits its time",
        )
    candidate = candidate_tree(Path.cwd())
    baseline = baseline_tree(asked.against, candidate=candidate, into=into)
    if asked.config is None:
        _check_model(asked.flags.get("model") or "", candidate)
    return baseline, candidate


def _out(asked: AgainstOptions, trees: tuple[Tree, Tree]) -> Path:
    return asked.out or Path("results") / "gate" / f"{trees[0].name}..{trees[1].name}"


def _earlier(folder: Path) -> Iterator[TrialRecord]:
    """Yield the records of earlier gates in a folder; a file that cannot be read hinders no dry run."""
    for path in sorted(folder.rglob("*.jsonl")):
        with suppress(InputError):
            yield from load_results(path).records


def _measured(
    asked: AgainstOptions,
    options: GateOptions,
    *,
    trees: tuple[Tree, Tree],
    workers: tuple[Worker, Worker],
    console: Console,
) -> tuple[Comparison, tuple[ResultsFile, ResultsFile], tuple[PairedSpec, ...]]:
    """Return what measuring came to, the files of the records, closed, and what was measured for it."""
    say(console, "starting vnbench on both sides and looking at this machine: this takes some seconds")
    environments = [worker.environment(asked.flags.get("device") or "auto") for worker in workers]
    config = _config(asked, environments[1], candidate=trees[1])
    corpus = plan_corpus(config)
    for note in corpus.notes:
        say(console, note)
    specs = _paired_specs(config, corpus, environments[1], trees=trees)
    # Earlier revisions of vnbench read no corpus whose other images are not written yet.
    measured = corpus.measured_examples(one.candidate for one in specs)
    prepare_corpus(corpus, range(corpus.num_examples) if trees[1].is_vnbench else measured, console=console)
    plan = BlockPlan(
        specs=specs,
        corpus_directory=corpus.directory.resolve(),
        tolerances=options.tolerances,
        metrics=options.metrics,
        time_cap_s=asked.time_cap_s,
        seed=config.seed,
    )
    out = _out(asked, trees)
    with (
        BlockProgress(tolerance=options.tolerances.time, console=console) as progress,
        ExitStack() as stack,
    ):
        files = _open_files(stack, out, environments, corpus_id=corpus.corpus_id, console=console)
        if differing := _differing(environments, has_times=plan.has_times):
            return Comparison(rows=(), differing=differing, is_in_turn=True, is_in_blocks=True), files, specs

        def run(side: int, task: TrialTask) -> TrialRecord:
            progress.trial_started(task.spec, side)
            record = workers[side].run(
                replace(task, worker_timeout_s=config.worker_timeout_s), timeout_s=config.trial_timeout_s
            )
            if record.status != "ok":
                _check_text(task.spec, trees[side])
            return record

        try:
            return measure_blocks(plan, files=files, run=run, progress=progress), files, specs
        except KeyboardInterrupt:
            say(console, f"interrupted; the same command goes on with what is in {out}")
            raise


def _config(asked: AgainstOptions, environment: Environment, *, candidate: Tree) -> SweepConfig:
    """Return what is measured, on the machine of ``environment``."""
    shipped = DEFINITIONS / f"{environment['device_type']}.toml"
    request = read_request(asked.flags, config_path=asked.config if asked.is_sized else shipped)
    # Sides are compared row by row, and nothing is forecast.
    request = replace(request, values={"design": "one-at-a-time"} | dict(request.values))
    config = complete(request, environment=environment)
    if config.chooses_precision and config.device == "cpu":
        # No probe tells whether this processor is slow in others.
        config = replace(config, axes={**config.axes, "precision": ("fp32",)})
    _check_model(config.model, candidate)
    if not is_own_model(config.model):
        return config
    file, _, function = config.model.rpartition(":") if ":" in config.model else (config.model, "", "")
    path = Path(file).resolve()
    if not path.is_relative_to(candidate.root):
        raise InputError(
            "--model",
            config.model,
            allowed=f"the file lies outside of {candidate.root}, so the baseline has none of its own",
            remedy="run the command in the repository of the network",
        )
    name = os.path.relpath(path, candidate.folder.resolve())
    return replace(config, model=f"{name}:{function}" if function else name)


def _check_model(name: str, candidate: Tree) -> None:
    """Refuse a network that is the same on both sides, which outside of vnbench any but one of the user's own is.

    Raises:
        InputError: it is.
    """
    if not candidate.is_vnbench and not is_own_model(name):
        raise InputError(
            "--model",
            name,
            allowed=f"{candidate.root} is not vnbench itself, so {WHERE} compares a network of your own",
            remedy="write --model FILE.py:FUNCTION",
        )


def _paired_specs(
    config: SweepConfig, corpus: CorpusPlan, environment: Environment, *, trees: tuple[Tree, Tree]
) -> tuple[PairedSpec, ...]:
    """Return the configurations, each with the text of the network that its side has."""
    design = designer(corpus, environment)(config)
    specs = list(dict.fromkeys(trial.spec for trial in design.trials))
    return tuple(PairedSpec(baseline=_on_baseline(spec, trees[0]), candidate=spec) for spec in specs)


def _on_baseline(spec: TrialSpec, baseline: Tree) -> TrialSpec:
    """Return a spec with the text of the network that the baseline has.

    Raises:
        InputError: it has none, or one that does not take a lever that is varied.
    """
    if spec.model_id is None:
        return spec
    try:
        own = _own_model(spec, baseline)
    except InputError as error:
        raise InputError(
            WHERE,
            baseline.told,
            allowed=f"its network cannot be read ({error})",
            remedy="name a revision that has it, with the same file and function",
        ) from error
    for lever, neutral in NEUTRAL.items():
        if getattr(spec, lever) != neutral and lever not in own.levers:
            option = lever.replace("_", "-")
            raise InputError(
                WHERE,
                baseline.told,
                allowed=f"its {own.function} takes no {lever}, and --{option} {getattr(spec, lever)} is to be measured",
                remedy=f"write --{option} {neutral}",
            )
    return replace(spec, model_id=own.model_id)


def _own_model(spec: TrialSpec, tree: Tree) -> OwnModel:
    return read_own_model(str(tree.folder / spec.model), where="--model")


def _check_text(spec: TrialSpec, tree: Tree) -> None:
    """Refuse to count a failure whose cause is that the network was edited meanwhile.

    Raises:
        InputError: its text is another one now.
    """
    if spec.model_id is not None and _own_model(spec, tree).model_id != spec.model_id:
        raise InputError(
            "--model",
            spec.model,
            allowed="the file changed while it was measured",
            remedy="run the same command again, and edit a copy meanwhile",
        )


def _differing(environments: Sequence[Environment], *, has_times: bool) -> tuple[str, ...]:
    """Return what keeps two sides from being compared: nothing needs to be measured to see it."""
    keys = ("device_type", "torch_version", *(("device_name", *SPEED_KEYS) if has_times else ()))
    there, here = ({key: one.get(key) for key in keys} for one in environments)
    return tuple(
        f"{key}: baseline {fact_text(there[key])}, candidate {fact_text(here[key])}"
        for key in keys
        if there[key] is not None and here[key] is not None and there[key] != here[key]
    )


def _open_files(
    stack: ExitStack, out: Path, environments: Sequence[Environment], *, corpus_id: str, console: Console
) -> tuple[ResultsFile, ResultsFile]:
    files = []
    for name, environment in zip(SIDES, environments, strict=True):
        place = place_results(out / f"{name}.jsonl", environment=environment, corpus_id=corpus_id)
        file = stack.enter_context(ResultsFile(place.path, environment=environment))
        for note in (*place.notes, *file.notes):
            say(console, note)
        files.append(file)
    return files[0], files[1]


def _side(records: Sequence[TrialRecord], tree: Tree) -> Side:
    side = side_of(records)
    return replace(side, about=f"{tree.told}; {side.about}" if side.about else tree.told)
