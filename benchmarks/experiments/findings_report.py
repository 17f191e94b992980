"""Answers from the records of one machine to the questions that the toolkit was built for, each with a figure.

Run with: python benchmarks/experiments/findings_report.py results/cpu-amd-epyc --out reports

The folder holds the records of the definitions in benchmarks/definitions/, under the names in campaign_cuda.toml. For a
question without records, the report names the command that makes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from findings_questions import QUESTIONS, Question
from findings_sources import NotMeasured, Sources
from markdown_page import page_name, write_page

from vnbench.errors import InputError, PlanError
from vnbench.output.words.provenance import CPU_LABEL, note_on_peaks


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the records of one machine")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args(arguments)

    try:
        sources = Sources(options.results)
        origin = sources.origin
    except InputError as error:
        parser.error(str(error))
    blocks = [
        f"# Findings: {', '.join(origin.parts()[:2])}",
        f"{origin.line(f'{sources.num_trials:,} trials')}. {CPU_LABEL + '.' if origin.is_cpu else ''}".strip(),
        "Each answer is drawn from the records that the commands under it make; intervals are 95 % unless it says "
        "otherwise.",
        *note_on_peaks(sources.everything.records),
    ]
    for number, question in enumerate(QUESTIONS, start=1):
        blocks += section(number, question, sources)
    name = page_name("findings", machine=options.results.resolve().name, date=max(origin.dates))
    write_page(blocks, options.out / f"{name}.md", script=__file__, arguments=arguments)
    return 0


def section(number: int, question: Question, sources: Sources) -> list[str]:
    """Return a question with its answer, or why there is none, and the commands that make its records."""
    try:
        answer = question.answer(sources)
    except NotMeasured as missing:
        answer = [f"Not measured here: {missing}."]
    except PlanError as error:
        answer = [f"The records do not answer it: {error}."]
    commands = "\n".join(sources.command(name) for name in question.files)
    told = (
        [f"```bash\n{commands}\n```"] if commands else ["From all records of this page and of the reports beside it."]
    )
    return [f"## {number}. {question.title}", *answer, *told]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
