"""Do two identical trials differ as much as predicted? Pairs compared with an interval from earlier trials.

Run with: python benchmarks/experiments/noise_pairs.py results/cpu-amd-epyc/noise_pairs.jsonl --out reports

The first processes of each spec (--calibration) give the spread. The others form pairs of neighbours in time. Each
pair's difference is compared with the 95 % prediction interval from that spread, and with the interval that follows
from the steps of the two processes alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_page import records_page_name, write_page
from scipy.stats import binomtest

from vnbench.analysis.statistics.estimate import Estimate, student_t
from vnbench.analysis.statistics.process_spread import Spread, pair_half_width, spread_of
from vnbench.analysis.trials.noise import process_figure
from vnbench.analysis.trials.process import measured_at_s
from vnbench.analysis.trials.summary import latest_attempts
from vnbench.output.plots.style import legend_below, new_figure, save, styled
from vnbench.output.words.provenance import Provenance, provenance
from vnbench.records.placement import placed
from vnbench.records.record import DISTURBANCES, TrialRecord
from vnbench.records.store import load_all

PROMISED = 0.95
"""Share of pairs that a 95 % interval should contain."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    spec_id: str
    time_s: float
    difference: float
    """(First - second) / mean."""
    half_width: float
    """Half-width of the prediction interval from the calibration, including the spread between processes."""
    half_width_of_steps: float
    """Half-width of the interval from the steps of the two processes alone."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--calibration", type=int, default=10, help="processes per spec that give the spread")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    records = [
        record for record in latest_attempts(load_all(placed(options.results)).records) if record.kind == "training"
    ]
    by_spec: dict[str, list[tuple[TrialRecord, Estimate]]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.replicate):
        if (figure := process_figure(record)) is not None:
            by_spec[record.spec_id].append((record, figure))
    spread = spread_of([[[figure for _, figure in processes[: options.calibration]]] for processes in by_spec.values()])
    if spread is None:
        print("no spec ran twice: raise --replicates", file=sys.stderr)
        return 3
    start_s = min(map(measured_at_s, records))
    pairs = [
        pair
        for spec_id, processes in by_spec.items()
        for pair in make_pairs(spec_id, processes[options.calibration :], spread, start_s)
    ]
    if not pairs:
        print("nothing is left to pair: lower --calibration", file=sys.stderr)
        return 3

    name = records_page_name("noise", records)
    options.out.mkdir(parents=True, exist_ok=True)
    origin = provenance(records)
    with styled():
        draw(pairs, options.out, name=name, origin=origin, trials=f"{len(records)} trials")
    text = describe(records, by_spec, spread, pairs, options.calibration, f"{name}.png")
    definition = "noise_pairs.toml" if origin.is_cpu else "noise_pairs_cuda.toml"
    sweep = f"vnbench sweep --config benchmarks/definitions/{definition} --out {options.results}"
    write_page([text], options.out / f"{name}.md", script=__file__, arguments=arguments, before=[sweep])
    return 0


def make_pairs(
    spec_id: str, processes: Sequence[tuple[TrialRecord, Estimate]], spread: Spread, start_s: float
) -> list[Pair]:
    pairs = []
    for (one, first), (_, second) in zip(processes[::2], processes[1::2], strict=False):
        errors = [figure.relative_error or 0.0 for figure in (first, second)]
        freedom = sum(figure.dof for figure in (first, second) if figure.se is not None)
        within = Estimate(value=1.0, se=math.hypot(*errors) / math.sqrt(2), dof=freedom or math.inf)
        pairs.append(
            Pair(
                spec_id=spec_id,
                time_s=measured_at_s(one) - start_s,
                difference=2 * (first.value - second.value) / (first.value + second.value),
                half_width=pair_half_width(spread, within),
                half_width_of_steps=student_t(max(freedom, 1)) * math.hypot(*errors),
            )
        )
    return pairs


def describe(
    records: Sequence[TrialRecord],
    by_spec: dict[str, list[tuple[TrialRecord, Estimate]]],
    spread: Spread,
    pairs: Sequence[Pair],
    calibration: int,
    figure_name: str,
) -> str:
    held = sum(abs(pair.difference) <= pair.half_width for pair in pairs)
    held_by_steps = sum(abs(pair.difference) <= pair.half_width_of_steps for pair in pairs)
    disturbed = sum(any(warning.code in DISTURBANCES for warning in record.warnings) for record in records)
    lines = [
        f"# Do identical trials differ as much as is said? {provenance(records).parts()[0]}",
        "",
        f"{len(records)} trials of {len(by_spec)} specs, each in a process of its own, interleaved. The first "
        f"{calibration} processes of each spec state the spread; the others make {len(pairs)} pairs of neighbours that "
        "took no part in it.",
        "",
        "| | |",
        "|---|---|",
        f"| spread between processes (standard deviation) | {100 * spread.relative:.2f} % |",
        f"| of it explained by the steps of a process | {100 * spread.relative_within:.2f} % |",
        f"| pairs inside their 95 % interval, processes included | {share(held, len(pairs))} |",
        f"| pairs inside an interval from their steps alone | {share(held_by_steps, len(pairs))} |",
        f"| median half-width, processes included | ± {100 * median([p.half_width for p in pairs]):.1f} % |",
        f"| median half-width from steps alone | ± {100 * median([p.half_width_of_steps for p in pairs]):.1f} % |",
        f"| largest difference of a pair | {100 * max(abs(pair.difference) for pair in pairs):.1f} % |",
        f"| trials tagged as disturbed | {disturbed} |",
        "",
        f"![Differences of pairs and the interval that was stated for them]({figure_name})",
        "",
        "| spec | pairs | inside | standard deviation of the difference |",
        "|---|---|---|---|",
    ]
    for spec_id, processes in by_spec.items():
        spec = processes[0][0].spec
        own = [pair for pair in pairs if pair.spec_id == spec_id]
        inside = sum(abs(pair.difference) <= pair.half_width for pair in own)
        deviation = math.sqrt(sum(pair.difference**2 for pair in own) / len(own))
        name = f"{spec.precision}, checkpointing {spec.checkpointing}"
        lines.append(f"| {name} | {len(own)} | {inside} | {100 * deviation:.2f} % |")
    lines += ["", provenance(records).line(f"{len(records)} trials")]
    return "\n".join(lines)


def share(count: int, total: int) -> str:
    low, high = binomtest(count, total).proportion_ci(PROMISED, method="wilson")
    return f"{count} of {total} ({100 * low:.0f} to {100 * high:.0f} % at 95 % confidence)"


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def draw(pairs: Sequence[Pair], directory: Path, *, name: str, origin: Provenance, trials: str) -> None:
    ordered = sorted(pairs, key=lambda pair: pair.time_s)
    minutes = [pair.time_s / 60 for pair in ordered]
    inside = [abs(pair.difference) <= pair.half_width for pair in ordered]
    figure, axes = new_figure(
        title="Identical trials, pair by pair",
        caption=f"The 95 % interval that was stated holds {sum(inside)} of {len(inside)} pairs.",
        origin=origin,
        trials=trials,
    )
    for half_widths, style, label in (
        ([pair.half_width for pair in ordered], "-", "95 % interval, processes included"),
        ([pair.half_width_of_steps for pair in ordered], ":", "95 % interval from steps alone"),
    ):
        for sign in (1, -1):
            axes.plot(
                minutes,
                [100 * sign * half_width for half_width in half_widths],
                style,
                color="black",
                linewidth=1,
                label=label if sign == 1 else None,
            )
    for is_inside, marker, colour, label in ((True, "o", "#0072B2", "inside"), (False, "X", "#D55E00", "outside")):
        chosen = [i for i, flag in enumerate(inside) if flag == is_inside]
        axes.plot(
            [minutes[i] for i in chosen],
            [100 * ordered[i].difference for i in chosen],
            marker,
            color=colour,
            markersize=5,
            label=f"pair, {label} ({len(chosen)})",
        )
    axes.set_xlabel("time since the first trial (min)")
    axes.set_ylabel("difference of a pair (%)")
    legend_below(axes)
    save(figure, directory, name=name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
