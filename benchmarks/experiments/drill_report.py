"""Training runs that are killed five times each: what was lost, and whether they took what was planned.

    python benchmarks/experiments/drill_report.py --results results/DEVICE/drills.ndjson --out reports --drills 20

Each drill has a seed of its own, which draws its weights, batches and kills. They take turns between the disk and a
file system in memory, and between snapshots that training waits for and those that are written beside it. A line of
JSON goes to the file when a drill ends; the same command again goes on where it stopped, and ``--report-only`` draws
the page from what there is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markdown_page import REPORT_ONLY, page_name, write_page
from matplotlib.figure import Figure

from vnbench.analysis.statistics.means import mean
from vnbench.output.plots.style import DOTS_PER_INCH, WIDTH_INCHES, save, styled
from vnbench.output.view import Column, View
from vnbench.output.words.numbers import significant
from vnbench.request.results_folder import results_folder
from vnbench.units import count, format_bytes, format_percent

NUM_KILLS = 5

PLACES = {"disk": None, "memory": Path("/dev/shm")}
"""Where snapshots go, by name; None for the temporary folder."""

MODES = ("sync", "async")

MOST_ERROR = 0.03
"""Largest error of a planned finish that counts as right, beside its interval."""

LEAST_SHARE = 17 / 20
"""Least share of drills whose finish has to be right."""

Drill = Mapping[str, Any]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one a drill")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--drills", type=int, default=20)
    parser.add_argument(REPORT_ONLY, action="store_true", dest="is_report_only")
    options = parser.parse_args(arguments)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    if not options.is_report_only:
        machine = json.loads(subprocess.check_output([sys.executable, "-m", "vnbench", "env", "--json"]))
        for number in range(len(drills_in(options.results)), options.drills):
            line = drilled(number) | {
                "device": machine["device_name"],
                "folder": results_folder(machine).name,
                "num_threads": machine["num_threads"],
                "torch": machine["torch_version"],
                "revision": machine["revision"],
            }
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    drills = drills_in(options.results)
    if not drills:
        raise SystemExit(f"{options.results}: no drill has ended")
    name = page_name("drills", machine=drills[0]["folder"], date=drills[0]["started_at"])
    with styled():
        save(finish_figure(drills), options.out, name=name)
    write_page([*page(drills, name=name)], options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def drilled(number: int) -> dict[str, Any]:
    """Run a drill and return what it found."""
    place = list(PLACES)[number % 2]
    mode = MODES[number // 2 % 2]
    target = PLACES[place] or Path(tempfile.gettempdir())
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    command = ["drill", "--kills", str(NUM_KILLS), "--seed", str(number), "--snapshot-mode", mode]
    ended = subprocess.run(
        [sys.executable, "-m", "vnbench", *command, "--snapshot-target", str(target), "--json"],
        stdout=subprocess.PIPE,
        check=False,
    )
    if ended.returncode not in (0, 1):
        raise SystemExit(f"drill {number} ended with exit code {ended.returncode}")
    found: dict[str, Any] = json.loads(ended.stdout)
    free = shutil.disk_usage(target).free
    return {"number": number, "place": place, "mode": mode, "started_at": started_at, "free_bytes": free} | found


def drills_in(path: Path) -> list[Drill]:
    """Return the drills of a file, or none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def error(drill: Drill) -> float:
    """Return the relative error of the middle of the plan."""
    return float(drill["planned_s"]["p50"] / drill["measured_s"] - 1)


def is_right(drill: Drill) -> bool:
    """Return whether a drill took what was planned, within MOST_ERROR or inside its interval."""
    planned, measured_s = drill["planned_s"], drill["measured_s"]
    return bool(abs(planned["p50"] / measured_s - 1) <= MOST_ERROR or planned["p10"] <= measured_s <= planned["p90"])


def page(drills: Sequence[Drill], *, name: str) -> Iterator[str]:
    first = drills[0]
    kills = sum(drill["kills"] for drill in drills)
    lost = sum(drill["lost_snapshots"] for drill in drills)
    same = sum(drill["is_bitwise_equal"] for drill in drills)
    over = sum(drill["redone_steps_max"] > reach(drill) for drill in drills)
    # What a restart takes may be measured otherwise in other revisions; what a kill costs of the run is not.
    latest = [drill for drill in drills if drill["revision"] == drills[-1]["revision"]]
    right = sum(map(is_right, latest))
    errors = [abs(error(drill)) for drill in latest]
    hits: Counter[str] = Counter()
    for drill in drills:
        hits.update(drill["hit"])
    yield "# Training runs that are killed, and go on"
    yield (
        f"{first['device']}, {count(first['num_threads'], 'thread')}, torch {first['torch']}, "
        f"{drills[-1]['started_at'][:10]}: {count(len(drills), 'drill')} of {NUM_KILLS} kills, "
        "network veernet-tiny, snapshots of "
        f"{format_bytes(first['snapshot_bytes'])}. SIGKILL ends the process and its loader workers."
    )
    yield View(
        [
            ("kills", f"{kills}", "", ""),
            ("snapshots lost", str(lost), "0", told(lost == 0)),
            ("runs that ended equal to the bit", f"{same} of {len(drills)}", "all", told(same == len(drills))),
            ("runs with more than an interval done again", str(over), "0", told(over == 0)),
            (
                f"finish planned within {format_percent(MOST_ERROR)}, or inside 80 % of what was planned",
                f"{right} of {len(latest)}",
                f"at least {format_percent(LEAST_SHARE)}",
                told(right >= LEAST_SHARE * len(latest)),
            ),
            ("finish off by, median", format_percent(statistics.median(errors)), "", ""),
        ],
        [
            Column("", lambda row: row[0], align="left"),
            Column("measured", lambda row: row[1]),
            Column("accepted", lambda row: row[2]),
            Column("reached", lambda row: row[3]),
        ],
    ).markdown()
    words = ", ".join(f"{word} {number}" for word, number in sorted(hits.items()))
    yield (
        f"By their last word the processes were: {words} (loading: in a step or its wait for a batch; writing: in the "
        "write of a snapshot). A snapshot that is written beside training may be killed with its process, which costs "
        "an interval more."
    )
    by_mode = {mode: [error(drill) for drill in latest if drill["mode"] == mode] for mode in MODES}
    told_modes = ", ".join(
        f"{100 * statistics.median(found):+.1f} % {'where training waits for' if mode == 'sync' else 'beside'} writing"
        for mode, found in by_mode.items()
        if found
    )
    counted = (
        "A plan counts what snapshots cost a run in all, which is trained once with them and without kills."
        if "held_up_s" in latest[-1]
        else "A plan counts what a snapshot holds training up for, and not what writing takes of the cores that train."
    )
    others = f", of the last revision that drilled ({len(latest)} of them)" if len(latest) < len(drills) else ""
    yield (f"The planned finish{others} is off by, in the median: {told_modes}. {counted}")
    yield f"![Measured finish of each drill beside what was planned]({name}.png)"
    yield "## What a snapshot holds training up for"
    yield stalls(drills)
    yield "## Every drill"
    yield View(
        drills,
        [
            Column("seed", lambda drill: str(drill["number"])),
            Column("snapshots go to", lambda drill: drill["place"], align="left"),
            Column("written", lambda drill: drill["mode"], align="left"),
            Column("steps between", lambda drill: str(drill["interval_steps"])),
            Column("done again, at most", lambda drill: str(drill["redone_steps_max"])),
            Column("steps alone, s", lambda drill: drill["work_s"], text=significant),
            Column("restart, s", lambda drill: drill["restart_s"], text=significant),
            Column("planned, s", lambda drill: planned_told(drill["planned_s"])),
            Column("measured, s", lambda drill: drill["measured_s"], text=significant),
            Column(
                "off, %",
                lambda drill: 100 * (drill["planned_s"]["p50"] / drill["measured_s"] - 1),
                text="{:+.1f}".format,
            ),
        ],
    ).markdown()


def reach(drill: Drill) -> int:
    """Return the most steps that a kill may cost: an interval, and another where a snapshot is written meanwhile."""
    return int(drill["interval_steps"]) * (2 if drill["mode"] == "async" else 1)


def stalls(drills: Sequence[Drill]) -> str:
    """Return what snapshots hold training up for in each way of writing, by where they go, and the gain."""
    rows = []
    for place in PLACES:
        own = {mode: [held_up_s(d) for d in drills if (d["place"], d["mode"]) == (place, mode)] for mode in MODES}
        if min(map(len, own.values())) < 2:
            continue
        waited, beside = (mean(own[mode]) for mode in MODES)
        gain = waited.less(beside)
        rows.append((place, told_s(waited), told_s(beside), told_s(gain)))
    return View(
        rows,
        [
            Column("snapshots go to", lambda row: row[0], align="left"),
            Column("training waits", lambda row: row[1]),
            Column("written beside it", lambda row: row[2]),
            Column("gain, with its 95 % interval", lambda row: row[3]),
        ],
    ).markdown()


def held_up_s(drill: Drill) -> float:
    """Return what a snapshot held training up for; older drills knew no other cost."""
    return float(drill.get("held_up_s", drill["snapshot_s"]))


def told_s(estimate: Any) -> str:
    interval = estimate.interval()
    ends = "" if interval is None else f" ({1000 * interval[0]:.3g} to {1000 * interval[1]:.3g})"
    return f"{1000 * estimate.value:.3g}{ends} ms"


def planned_told(planned: Mapping[str, float]) -> str:
    return f"{planned['p50']:.3g} ({planned['p10']:.3g} to {planned['p90']:.3g})"


def told(is_reached: bool) -> str:
    return "yes" if is_reached else "no"


def finish_figure(drills: Sequence[Drill]) -> Figure:
    """Return the measured finish of each drill, over the middle of what was planned, beside four fifths of the plan."""
    figure = Figure(figsize=(WIDTH_INCHES, 3.6), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    for place, marker in zip(PLACES, "os", strict=True):
        own = [drill for drill in drills if drill["place"] == place]
        numbers = [drill["number"] for drill in own]
        middle = [drill["planned_s"]["p50"] for drill in own]
        low = [drill["planned_s"]["p10"] / drill["planned_s"]["p50"] for drill in own]
        high = [drill["planned_s"]["p90"] / drill["planned_s"]["p50"] for drill in own]
        axes.vlines(numbers, low, high, color="0.7", linewidth=7, zorder=1)
        measured = [drill["measured_s"] / one for drill, one in zip(own, middle, strict=True)]
        axes.plot(
            numbers,
            measured,
            marker,
            color="black",
            markersize=5,
            label={"disk": "snapshots on disk", "memory": "snapshots in memory"}[place],
            zorder=2,
        )
    axes.axhline(1.0, color="0.5", linewidth=0.8, zorder=0)
    axes.set_xlabel("drill, by its seed")
    axes.set_ylabel("measured over planned finish")
    axes.set_title(
        f"Finish with {NUM_KILLS} kills, over the middle of the plan; bars: 10 to 90 % of what was planned", loc="left"
    )
    axes.legend(loc="best")
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
