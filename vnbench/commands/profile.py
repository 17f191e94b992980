"""``vnbench profile``: the memory of one worst-case step, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.errors import InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.plots.profile import profile_figure
from vnbench.output.plots.style import save, styled
from vnbench.output.progress import describe_trial
from vnbench.output.tables.profile import profile_tables
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import measured_on
from vnbench.processes.locks import gpu_lock
from vnbench.processes.parent import run_child
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.records.task import TrialTask
from vnbench.request.config import SweepConfig, complete
from vnbench.request.options import OPTIONS
from vnbench.request.reading import Request, read_request
from vnbench.sweep.design import make_design
from vnbench.sweep.runner import check_own_models, failure_of, probe_environment

PROFILE_ENTRY = "vnbench.trial.kinds.profile:run"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileReport:
    """What was profiled."""

    profiles: tuple[Profile, ...]
    """One per configuration."""
    files: tuple[Path, ...]
    """Figures and snapshots that were written."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where no step ended."""
        return 0 if any(profile.status == "ok" for profile in self.profiles) else 3

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "profiles": [profile.to_json() for profile in self.profiles],
            "files": [str(path) for path in self.files],
        }


def run_profile_command(flags: Mapping[str, str | None], *, out: Path | None, as_json: bool) -> ProfileReport:
    """Profile the worst-case step of each configuration that the options name, each in a process of its own.

    Raises:
        InputError: an option cannot be used.
    """
    console = stderr_console()
    request = _request(flags)
    environment = probe_environment(request.device)
    config = complete(request, environment=environment)
    if config.widths is None or config.heights is None:
        raise InputError("--widths", allowed="the worst case is needed", remedy="write --widths 3200:12800")
    specs = _specs(config)
    check_own_models(specs)
    if out is not None:
        _make_folder(out)
    profiles: list[Profile] = []
    files: list[Path] = []
    with gpu_lock(environment["device_uuid"]):
        for number, spec in enumerate(specs, start=1):
            say(console, f"[{number}/{len(specs)}] {describe_trial(spec)}")
            folder = None if out is None else out / _name(spec)
            if folder is not None:
                _make_folder(folder)
            profile = _profile(spec, folder, timeout_s=config.trial_timeout_s)
            profile = replace(profile, device_name=environment["device_name"])
            profiles.append(profile)
            if folder is not None and profile.status == "ok":
                files += _write(profile, folder, environment=environment)
    if not as_json:
        stdout_console().print(profile_tables(profiles))
    for path in files:
        say(console, f"written: {path}")
    return ProfileReport(profiles=tuple(profiles), files=tuple(files))


def _request(flags: Mapping[str, str | None]) -> Request:
    """Return what the options ask for: each named value with each other one, at one batch per micro-batch."""
    micro_batch_sizes = flags["micro-batch-size"] or "1"
    OPTIONS["batch-size"].parse(micro_batch_sizes, "--micro-batch-size")
    return read_request(
        {
            **flags,
            # The batch of a memory trial is its micro-batch.
            "batch-size": micro_batch_sizes,
            "micro-batch-size": None,
            "sampler": "bucketed",
            "num-workers": "0",
            "design": "full",
            "kind": "memory",
            "examples": "2",
        },
        config_path=None,
    )


def _specs(config: SweepConfig) -> list[MemorySpec]:
    assert config.widths is not None
    assert config.heights is not None
    design = make_design(
        config,
        corpus_id="",
        train_sizes_N2=np.ones((1, 2), dtype=np.int64),
        worst_case=(config.heights.stop, config.widths.stop),
        canvas_sizes=(),
    )
    return [trial.spec for trial in design.trials if isinstance(trial.spec, MemorySpec)]


def _profile(spec: MemorySpec, folder: Path | None, *, timeout_s: float) -> Profile:
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=None if folder is None else str(folder))
    outcome = run_child(PROFILE_ENTRY, task.to_json(), timeout_s=timeout_s)
    if outcome.answer is None:
        status, cause = failure_of(outcome, timeout_s=timeout_s, has_memory_limit=spec.memory_limit_bytes is not None)
        return Profile.failed(spec, status=status, reason=cause.message)
    return Profile.of(spec, json.loads(outcome.answer))


def _write(profile: Profile, folder: Path, *, environment: Environment) -> Sequence[Path]:
    origin = measured_on(environment, date=f"{datetime.now(UTC):%Y-%m-%d}")
    with styled():
        figures = save(profile_figure(profile, origin=origin), folder, name="profile")
    path = folder / "profile.json"
    path.write_text(json.dumps(profile.to_json()) + "\n", encoding="utf-8")
    # The child's own: torch's snapshot of the allocator (CUDA).
    return (*figures, path, *sorted(folder.glob("*.pickle")))


def _name(spec: TrialSpec) -> str:
    parts = [f"micro-{spec.micro_batch_size}", spec.precision, f"norm-{spec.norm_precision}"]
    parts += [f"checkpointing-{spec.checkpointing}", spec.spec_id]
    return "_".join(parts)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--out", path, allowed=f"the folder cannot be made ({error.strerror})", remedy="name another"
        ) from error
