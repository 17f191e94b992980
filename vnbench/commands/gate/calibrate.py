"""``vnbench gate --calibrate``: what the noise of a machine makes of the gate, from sweeps of one revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vnbench.analysis.comparison.calibration import Calibration, calibrate
from vnbench.analysis.comparison.compare import differing_keys
from vnbench.analysis.comparison.rows import Tolerances
from vnbench.commands.gate.inputs import load_candidate
from vnbench.errors import GateError, InputError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.gate.calibration import calibration_lines
from vnbench.output.words.commands import options_of_specs, sweep_command

SEED = 0
"""Of the relabelled comparisons: the same files give the same answer."""


def run_calibrate_command(
    paths: Sequence[Path], *, detect: float, tolerances: Tolerances, as_json: bool
) -> dict[str, Any]:
    """Calibrate the gate on some sweeps, tell of it unless stdout is kept for JSON, and return it as JSON values.

    Raises:
        InputError: a file cannot be read whole, or the sweeps are not of one machine.
        GateError: too few processes to deal to two sides.
    """
    console = stderr_console()
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            "--calibrate", " ".join(map(str, paths)), allowed="a file is named twice", remedy="give each sweep once"
        )
    sides = [load_candidate(path) for path in paths]
    for path, side in zip(paths, sides, strict=True):
        if side.notes:
            raise InputError(
                str(path), allowed=f"parts of it cannot be read ({side.notes[0]})", remedy="measure it again"
            )
        differing = differing_keys(sides[0], side, has_times=True)
        if differing:
            raise InputError(
                str(path),
                allowed=f"a calibration takes sweeps of one machine ({'; '.join(differing)})",
                remedy=f"leave it out, or calibrate without {paths[0]}",
            )
    say(console, "dealing processes to two sides")
    found = calibrate(sides, detect=detect, tolerances=tolerances, seed=SEED)
    if found is None:
        specs = [one.spec for side in sides for one in side.configurations.values() if one.spec is not None]
        command = sweep_command(options_of_specs(specs), {"replicates": "4"})
        raise GateError(
            f"{', '.join(map(str, paths))}: no configuration was timed in four processes; measure each sweep with "
            f"--replicates 4 (of your own images with --images DIR), as with: {command}"
        )
    if not as_json:
        stdout = stdout_console()
        for line in calibration_lines(found, num_sweeps=len(sides)):
            say(stdout, line)
    return _as_json(found)


def _as_json(found: Calibration) -> dict[str, Any]:
    return asdict(found) | {"spreads": dict(found.spreads), "false_alarm_interval": list(found.false_alarm_interval)}
