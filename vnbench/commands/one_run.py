"""The one training run that drill and repeat start again and again: its spec, and the images that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rich.console import Console

from vnbench.commands.corpus import plan_corpus, prepare_corpus
from vnbench.commands.sweep.sweep import designer
from vnbench.errors import InputError
from vnbench.records.machine_keys import Environment
from vnbench.records.spec.trial_spec import TrainingSpec
from vnbench.records.task import TrialTask
from vnbench.request.config import complete
from vnbench.request.option import with_defaults
from vnbench.request.options import ONE_RUN_OPTIONS
from vnbench.request.reading import read_request
from vnbench.sweep.runner import check_own_models, probe_environment

SEVERAL = frozenset({"mask-values"})
"""Options of a run that hold several values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OneRun:
    """A training run on images that are there."""

    task: TrialTask[TrainingSpec]
    """What is trained."""
    environment: Environment
    """The machine."""


def prepare_run(flags: Mapping[str, str | None], *, console: Console) -> OneRun:
    """Return the run that the ONE_RUN_OPTIONS among the flags ask for, with its images written.

    Raises:
        InputError: an option cannot be used, or asks for several configurations.
    """
    asked = with_defaults(ONE_RUN_OPTIONS, flags)
    for name, text in asked.items():
        if "," in (text or "") and name not in SEVERAL:
            raise InputError(f"--{name}", text, allowed="one configuration is trained", remedy="write one value")
    request = read_request({**asked, "kind": "training", "replicates": "1"}, config_path=None)
    environment = probe_environment(request.device)
    config = complete(request, environment=environment)
    corpus = plan_corpus(config)
    config = replace(config, subset_size=max(config.subset_size, len(corpus.train_sizes_N2)))  # an epoch is all of them
    spec = next(trial.spec for trial in designer(corpus, environment)(config).trials)
    assert isinstance(spec, TrainingSpec)
    check_own_models([spec])
    folder = prepare_corpus(corpus, corpus.measured_examples([spec]), console=console)
    task = TrialTask(spec=spec, replicate=0, attempt=0, corpus_directory=str(folder))
    return OneRun(task=task, environment=environment)
