"""Commands that are suggested, whole: each can be pasted into a shell as it stands."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vnbench.analysis.trials.measured_sizes import asked_ranges, measured_ranges
from vnbench.output.words.provenance import is_all_forecast
from vnbench.records.record import TrialRecord, is_of_kind
from vnbench.records.spec.trial_spec import ObservedSpec, TrialSpec
from vnbench.records.spec.words import NUM_CLASSES, USUAL_GROUPS
from vnbench.request.options import OPTIONS
from vnbench.request.reading import NOT_OF_A_SEARCH
from vnbench.units import PixelRange

Options = Mapping[str, str]
"""Options of ``vnbench sweep`` as one writes them, by name without its dashes."""

USUAL_WIDTHS = "3200:12800"
"""What stands in a command where no record tells the sizes: the widths of the published images."""

OWN_IMAGES = "in these commands write --images DIR in place of --widths and --heights if your own images were measured"
"""Follows commands that were made of records which tell the sizes of their images, and not where these are."""

OWN_NETWORK = (
    "FILE.py:FUNCTION stands for a function that makes the network of the observed run: see vnbench guide network"
)
"""Follows commands that were made of records of somebody else's training."""

OF_A_FOLDER = "(for images of your own: --images DIR in place of --widths and --heights)"
"""The same before one such command."""

NOT_OF_ANOTHER_SWEEP = frozenset(
    {"kind", "design", "center", "soak", "retry", "reference-runs", "find-max-batch", "no-plots"}
)
"""Options that say what one sweep was to do, and not what it was of."""

OF_A_PROFILE = ("widths", "heights", "task", "classes", "model", "precision", "device")
"""Options of a sweep that ``vnbench profile`` has too, under one value of a precision."""


def with_own_images(lines: Sequence[str], records: Sequence[TrialRecord]) -> tuple[str, ...]:
    """Return lines that suggest sweeps made of records, followed by what to write where these name no images."""
    if not any("vnbench sweep" in line for line in lines):
        return tuple(lines)
    is_observed = any(is_of_kind(record, ObservedSpec) for record in records)
    return (
        *lines,
        *((OWN_IMAGES,) if not _names_images(records) else ()),
        *((OWN_NETWORK,) if is_observed else ()),
    )


def with_command(records: Sequence[TrialRecord], asked: Options) -> str:
    """Return "with:" and the command of another sweep like that of some records.

    What to write for images of one's own stands before it where the records do not name theirs.
    """
    command = f"with: {sweep_command(options_of_records(records), asked)}"
    return command if _names_images(records) else f"{OF_A_FOLDER} {command}"


def options_of_records(records: Sequence[TrialRecord]) -> Options:
    """Return the options of a sweep like the one that left some records: their images, network, device and precision.

    Records that do not tell the options of their images tell the sizes.
    """
    return _options([record.spec for record in records], _asked_images(records) or sizes_of_records(records))


def sizes_of_records(records: Sequence[TrialRecord]) -> Options:
    """Return the options that tell the range of sizes that records cover; none if they are unknown."""
    return _written_ranges(measured_ranges(records))


def images_told(records: Sequence[TrialRecord]) -> str:
    """Return of which images records are, as a phrase: their sizes, and where they lie if that is known."""
    asked = _asked_images(records) or {}
    ranges = sorted(measured_ranges(records).items())  # heights, then widths
    sides = " x ".join(" to ".join(dict.fromkeys((f"{one.start:,}", f"{one.stop:,}"))) for _, one in ranges)
    place = next((asked[name] for name in ("images", "corpus", "sizes") if name in asked), None)
    return " ".join(["images", *([f"of {sides} px"] if sides else []), *([f"from {place}"] if place else [])])


def options_of_specs(specs: Sequence[TrialSpec]) -> Options:
    """Return the options of a sweep of some specifications: their sizes, network, device and precision."""
    return _options(specs, _written_ranges(asked_ranges(specs)))


def network_of(spec: TrialSpec) -> str:
    """Return the network that a trial trains, with its classes unless they are three, as --model of a plan takes it."""
    classes = "" if spec.num_classes == NUM_CLASSES["multiclass"] else f", {spec.num_classes} classes"
    return f"{spec.model}{classes}" if spec.model_id is None else f"{spec.model} {spec.model_id}{classes}"


def plan_command(out: Path, options: Options) -> str:
    """Return the command that plans a run from a results file."""
    return shlex.join(["vnbench", "plan", str(out), *_written(options)])


def sweep_command(options: Options, asked: Options) -> str:
    """Return the command of another sweep of the same network and images; ``asked`` is what it is to measure."""
    kept = {name: text for name, text in options.items() if name not in NOT_OF_ANOTHER_SWEEP}
    return _command("sweep", {**kept, **asked})


def search_command(options: Options) -> str:
    """Return the command that searches the largest micro-batch of the same network and images."""
    kept = {name: text for name, text in options.items() if name not in {*NOT_OF_A_SEARCH, "time-budget"}}
    return sweep_command(kept, {"find-max-batch": "yes"})


def same_command(options: Options, asked: Options) -> str:
    """Return the command of the same sweep once more, with some options changed."""
    return _command("sweep", {**options, **asked})


def profile_command(options: Options, sizes: Options, *, out: str) -> str:
    """Return the command that tells the worst-case memory of the same network and sizes apart, into a folder."""
    known = {"widths": USUAL_WIDTHS, **options, **sizes}
    return _command("profile", {name: known[name] for name in OF_A_PROFILE if name in known} | {"out": out})


def _names_images(records: Sequence[TrialRecord]) -> bool:
    """Return whether a command made of records names their images: forecasts are of sizes alone."""
    return is_all_forecast(records) or _asked_images(records) is not None


def _asked_images(records: Sequence[TrialRecord]) -> Options | None:
    return next((record.images for record in reversed(records) if record.images), None)


def _written_ranges(ranges: Mapping[str, PixelRange]) -> Options:
    return {name: f"{ranges[name].start}:{ranges[name].stop}" for name in ("widths", "heights") if name in ranges}


def _options(specs: Sequence[TrialSpec], images: Options) -> Options:
    found = dict(images or {"widths": USUAL_WIDTHS})
    if not specs:
        return found
    first = specs[0]
    # An observed run tells what its network is called, not which function makes it.
    model = "FILE.py:FUNCTION" if isinstance(first, ObservedSpec) else first.model
    found |= {"task": first.task, "model": model, "device": first.device}
    found["precision"] = Counter(spec.precision for spec in specs).most_common(1)[0][0]
    if first.classes is not None:
        found["classes"] = str(first.classes)
    if first.norm_groups != USUAL_GROUPS:
        found["norm-groups"] = str(first.norm_groups)
    return found


def _command(name: str, options: Options) -> str:
    return shlex.join(["vnbench", name, *_written(options)])


def _written(options: Options) -> Iterator[str]:
    """Yield options as one writes them, word by word."""
    for option, text in options.items():
        if option in OPTIONS and OPTIONS[option].is_switch:
            yield from [f"--{option}"] if text == "yes" else []
        else:
            yield from (f"--{option}", text)
