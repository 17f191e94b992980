"""``vnbench plot``: every figure that records hold data for, those of a plan among them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vnbench.analysis.findings import Findings
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.commands.plan.answer import PlanReport
from vnbench.commands.plan.asked import run_values
from vnbench.commands.plan.on_card import forecast_cards_of, of_cards, of_the_measured
from vnbench.commands.plan.plan import plan_records
from vnbench.errors import InputError, PlanError
from vnbench.output.console import say, stderr_console, stdout_console
from vnbench.output.plots.figures import Subject, draw_figures
from vnbench.output.words.commands import with_own_images
from vnbench.output.words.profiles import Profile
from vnbench.output.words.provenance import Provenance, origin_of
from vnbench.records.one_corpus import load_one_corpus
from vnbench.records.record import TrialRecord, of_kind
from vnbench.records.spec.trial_spec import AuditSpec, ForecastSpec

UNFINISHED = ".vnbench-"
"""How folders begin whose files are not all written yet."""

STALE_S = 3600.0
"""Age of such a folder from which it belongs to nobody any more."""


def run_plot_command(
    results: Sequence[Path],
    flags: Mapping[str, str | None],
    *,
    out: Path,
    profiles: Sequence[Path],
    corpus_id: str | None = None,
    as_json: bool,
) -> dict[str, Any]:
    """Draw every figure of some results files into a folder and return what was drawn.

    Raises:
        InputError: a file or option cannot be used, or the records come from several devices or corpora.
    """
    values = run_values(flags)
    loaded = load_one_corpus(results, corpus_id=corpus_id, has_audits=True)
    console = stderr_console()
    for note in loaded.notes:
        say(console, note)
    records = of_cards(loaded.records, values.pop("card", None), where=", ".join(map(str, results)))
    with new_files(out) as folder:
        subject = subject_of(records, values, sources=results, profiles=profiles, audits=loaded.audits)
        drawn = draw_figures(subject, folder)
    files = [str(out / path.name) for path in drawn.files]
    if not as_json:
        for file in files:
            say(stdout_console(), file)
        for line in with_own_images([f"not drawn: {line}" for line in drawn.left_out], records):
            say(console, line)
    return {"plots": files, "left_out": list(drawn.left_out)}


def subject_of(
    records: Sequence[TrialRecord],
    values: Mapping[str, Any],
    *,
    sources: Sequence[Path],
    profiles: Sequence[Path],
    audits: Sequence[TrialRecord[AuditSpec]] = (),
) -> Subject:
    """Return what figures are drawn of: what records say, a plan of them, and profiles.

    Forecasts for other cards than the one that was measured stand beside the rest, and not in it.

    Raises:
        InputError: trials of several devices were measured, or a profile is none, or from another device.
    """
    forecasts = of_kind(latest_attempts(records), ForecastSpec)
    found = Findings(of_the_measured(records))
    origin = origin_of(found.records)
    return Subject(
        found=found,
        forecasts=forecasts,
        audits=tuple(of_kind(latest_attempts(audits), AuditSpec)),
        profiles=tuple(_profile(path, origin) for given in profiles for path in _files_of(given)),
        plan=plan_or_reason(found, values, sources=tuple(sources)),
    )


@contextmanager
def new_files(out: Path) -> Iterator[Path]:
    """Yield a folder whose files go to another one when all of them are written, and nowhere if one cannot be.

    Raises:
        InputError: the other one is a file, cannot be written, or the disk is full.
    """
    if out.exists() and not out.is_dir():
        raise InputError("--out", out, allowed="this is a file", remedy="name a folder")
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_stale(out)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=out) as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                # On one disk, so that it needs no room and is done at once.
                path.replace(out / path.name)
    except BaseException as error:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise InputError(
            "--out", out, allowed=f"cannot be written ({error.strerror})", remedy="name a writable folder with room"
        ) from error


def _remove_stale(out: Path) -> None:
    """Remove what commands that were killed left in a folder; one that still runs is younger."""
    for path in out.glob(f"{UNFINISHED}*"):
        if time.time() - path.stat().st_mtime > STALE_S:
            shutil.rmtree(path, ignore_errors=True)


def plan_or_reason(found: Findings, values: Mapping[str, Any], *, sources: tuple[Path, ...]) -> PlanReport | str:
    """Return the plan of the run, or why there is none."""
    if len(cards := forecast_cards_of(found.records)) > 1:
        return f"a plan is for one card, and these are forecasts for {', '.join(cards)}; write --card {cards[0]}"
    try:
        return plan_records(found, values, sources=sources)
    except PlanError as error:
        return str(error)


def _files_of(path: Path) -> Sequence[Path]:
    """Return a profile, or all of a folder: that which vnbench profile --out wrote, or one of copies."""
    if not path.is_dir():
        return (path,)
    files = sorted(path.rglob("*.json"))
    if not files:
        raise InputError(
            "--profile", path, allowed="there is no profile in it", remedy="name the folder of vnbench profile --out"
        )
    return files


def _profile(path: Path, origin: Provenance) -> Profile:
    profile = Profile.read(path)
    if profile.device_name != origin.device_name:
        raise InputError(
            "--profile",
            path,
            allowed=f"it was measured on {profile.device_name}, the records on {origin.device_name}",
            remedy="give profiles of the same device",
        )
    return profile
