"""Options that several commands share, and how a command answers in JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Text = str | None
Widths = Annotated[Text, typer.Option(metavar="A:B", help="Widths in pixels, both ends included, as 3200:12800.")]
Heights = Annotated[Text, typer.Option(metavar="A:B", help="Heights in pixels, both ends included. [480:640]")]
SizeLaw = Annotated[Text, typer.Option(metavar="LAW", help="uniform or log-uniform sides. [uniform]")]
Sizes = Annotated[Text, typer.Option(metavar="FILE.csv", help="Sizes of the images, columns width,height.")]
CorpusId = Annotated[Text, typer.Option(metavar="ID", help="Which corpus, where RESULTS hold several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
SAMPLERS_HELP = "random, step-sorted, bucketed, pixel-budget, sorted."
Seed = Annotated[Text, typer.Option(metavar="N", help="Seed of everything random. [0]")]


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(value, allow_nan=False))
