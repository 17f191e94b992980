"""The questions that the toolkit was built for, each with a function that answers it from one machine's records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from findings_checks import equality, failures, noise
from findings_memory import autocast
from findings_parts import accumulation, batches, bends, floors, norm_readings, predictions, workers
from findings_run import levers, published_run
from findings_sources import Sources


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question and its answer."""

    title: str
    files: tuple[str, ...]
    """Names of the records for the answer."""
    answer: Callable[[Sources], list[str]]
    """Returns paragraphs of Markdown; raises NotMeasured if records are missing."""


QUESTIONS = (
    Question(
        title="What would the published run take, and in the accounts' own recipe?",
        files=("wallclock",),
        answer=published_run,
    ),
    Question(title="Which lever buys how much, one at a time?", files=("wallclock",), answer=levers),
    Question(
        title="Does bf16 autocast save memory, with the norm in fp32 and in bf16?", files=("memory",), answer=autocast
    ),
    Question(title="What does each reading of half_or_16 cost?", files=("groupnorm",), answer=norm_readings),
    Question(
        title="Is a micro-batch of 1, accumulated and without padding, slower than a padded batch?",
        files=("accumulation",),
        answer=accumulation,
    ),
    Question(title="What does each sampler cost on the same examples?", files=("samplers",), answer=batches),
    Question(title="Where does the line of counted steps bend, and why?", files=("wallclock",), answer=bends),
    Question(title="How many workers feed computing?", files=("loader",), answer=workers),
    Question(
        title="How far is the best step from the floors of the machine?", files=("wallclock", "floors"), answer=floors
    ),
    Question(
        title="How good are the predictions of time and memory?", files=("wallclock", "memory"), answer=predictions
    ),
    Question(title="How far do identical trials differ?", files=("noise_pairs",), answer=noise),
    Question(title="Do all configurations compute the same step?", files=(), answer=equality),
    Question(title="Which configurations failed, were wrong, or crossed 2^31 elements?", files=(), answer=failures),
)
"""The questions in the order of the report."""
