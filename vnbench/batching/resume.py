"""Save and restore the position of a training run within an epoch; the plan is computed again, not stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig
from vnbench.batching.sizes import SizeArray
from vnbench.errors import InputError
from vnbench.records.spec.words import MAX_EPOCH
from vnbench.records.values.identity import digest

STATE_VERSION = 1
"""Version of the planning rules; it rises when the same settings give another plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanState:
    """A position in an epoch, without the plan itself."""

    version: int
    """Version of the planning rules."""
    seed: int
    """Seed of the order."""
    epoch: int
    """Epoch, from 0."""
    next_step: int
    """Next optimizer step to take; 0 at the start of the epoch."""
    plan_hash: str
    """Digest of the epoch's plan."""
    config_hash: str
    """Digest of the settings and the sizes."""
    settings: Mapping[str, Any]
    """The content of config_hash, so that an error can name the difference."""

    def to_json(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))


def settings_of(sizes_N2: SizeArray, config: PlanConfig) -> dict[str, Any]:
    """Return everything that a plan depends on, except the epoch; sizes as a digest."""
    return {
        **asdict(config),
        "num_examples": len(sizes_N2),
        "sizes": hashlib.sha256(np.ascontiguousarray(sizes_N2, dtype="<i8").tobytes()).hexdigest()[:12],
    }


class EpochSampler:
    """Yields the micro-batches of one epoch after another; can resume within an epoch.

    It can be the ``batch_sampler`` of a torch DataLoader: iteration yields the examples of each micro-batch. The
    training loop must count its optimizer steps and pass the count to ``state``, because a loader prefetches.
    """

    def __init__(self, sizes_N2: SizeArray, config: PlanConfig, *, has_length: bool = True) -> None:
        """Begin at the start of epoch 0.

        Without a length an epoch ends where its micro-batches do. Lightning needs that to go on within an epoch: it
        counts the micro-batches that came before, and would end early by the length of the rest.
        """
        self._has_length = has_length
        self._sizes_N2 = sizes_N2
        self._config = config
        self._first_step = 0
        self._is_used = False
        self._is_resumed = False
        self._epoch = 0
        self._plan = plan_epoch(sizes_N2, config, epoch=0)

    @property
    def config(self) -> PlanConfig:
        """How it groups the examples."""
        return self._config

    @property
    def sizes_N2(self) -> SizeArray:
        """Height and width of each example in pixels."""
        return self._sizes_N2

    @property
    def plan(self) -> BatchPlan:
        """The plan of the whole epoch."""
        return self._plan

    @property
    def remaining_steps(self) -> tuple[tuple[MicroBatch, ...], ...]:
        """The optimizer steps that the next iteration yields."""
        return self._plan.steps[self._first_step :]

    @property
    def first_step(self) -> int:
        """The optimizer step of the epoch, from 0, at which the next iteration begins: where it was resumed."""
        return self._first_step

    @property
    def sampler(self) -> EpochSampler:
        """Itself: Lightning tells the epoch to the ``sampler`` of a batch sampler, and to nothing else."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; where ``resume`` went into this one, its position is kept until it is iterated.

        Raises:
            InputError: it lies before the epoch that was resumed, and nothing of that one was iterated.
            ValueError: the epoch is out of range.
        """
        if epoch == self._epoch and not self._is_used:
            return
        if epoch < self._epoch and self._is_resumed and not self._is_used:
            raise InputError(
                "epoch",
                epoch,
                allowed=f"the sampler was resumed in epoch {self._epoch}; Fabric and Accelerate count from 0",
                remedy=f"call loader.set_epoch({self._epoch}) first, or iterate the loader itself",
            )
        self._plan = plan_epoch(self._sizes_N2, self._config, epoch=epoch)
        self._epoch = epoch
        self._first_step = 0
        self._is_used = False
        self._is_resumed = False

    def __len__(self) -> int:
        """Return the number of micro-batches that the next iteration yields.

        Raises:
            TypeError: it was made without a length.
        """
        if not self._has_length:
            raise TypeError("this sampler was made with has_length=False")
        return sum(map(len, self.remaining_steps))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the examples of each remaining micro-batch.

        The iterator does nothing before the first micro-batch is requested: a DataLoader with workers creates two
        iterators at its start and advances only one. The remaining steps are those at that first request.

        Raises:
            InputError: the epoch was already iterated; without ``set_epoch`` every epoch would be the same.
        """
        if self._is_used:
            raise InputError(
                "epoch",
                self._epoch,
                allowed="it was already iterated, and every pass over it would be the same",
                remedy=f"call set_epoch({self._epoch + 1}) before the next epoch",
            )
        self._is_used = True
        for step in self.remaining_steps:
            for micro_batch in step:
                yield list(micro_batch.examples)

    def state(self, *, next_step: int) -> PlanState:
        """Return the state after ``next_step`` optimizer steps of this epoch.

        Raises:
            ValueError: ``next_step`` is negative, or the epoch has fewer steps.
        """
        num_steps = len(self._plan.passes_S)
        if not 0 <= next_step <= num_steps:
            raise ValueError(f"next_step {next_step}: must be within 0 to {num_steps}")
        settings = settings_of(self._sizes_N2, self._config)
        return PlanState(
            version=STATE_VERSION,
            seed=self._config.seed,
            epoch=self._epoch,
            next_step=next_step,
            plan_hash=self._plan.digest,
            config_hash=digest(settings),
            settings=settings,
        )

    def resume(self, state: PlanState, *, where: str = "state") -> None:
        """Go to the position of a state; the next iteration yields the remaining micro-batches.

        Raises:
            InputError: the state belongs to another plan; the message names the difference.
        """
        ours, theirs = settings_of(self._sizes_N2, self._config), state.settings
        if state.version != STATE_VERSION:
            raise _mismatch(where, f"version {state.version} there, {STATE_VERSION} here")
        different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if different:
            raise _mismatch(
                where,
                ", ".join(
                    f"{name if name in ours else repr(name)} {theirs.get(name)!r} there, {ours.get(name)!r} here"
                    for name in different
                ),
            )
        if state.config_hash != digest(ours) or state.seed != self._config.seed:
            raise _mismatch(where, "its config_hash or seed does not match its settings")
        if not 0 <= state.epoch <= MAX_EPOCH:
            raise _mismatch(where, f"there is no epoch {state.epoch}")
        plan = plan_epoch(self._sizes_N2, self._config, epoch=state.epoch)
        if state.plan_hash != plan.digest:
            raise _mismatch(where, f"plan_hash {state.plan_hash!r} there, {plan.digest!r} here")
        if not 0 <= state.next_step <= len(plan.passes_S):
            raise _mismatch(where, f"next_step {state.next_step} there, {len(plan.passes_S)} steps here")
        self._plan = plan
        self._epoch = state.epoch
        self._first_step = state.next_step
        self._is_used = False
        self._is_resumed = True


def read_state(path: Path) -> PlanState:
    """Return the state in a file that ``PlanState.to_json`` wrote, or in the first line of a plan file.

    Raises:
        InputError: the file cannot be read or does not hold a state.
    """
    try:
        # The first line of a plan file is its state.
        text = path.read_text(encoding="utf-8")
        values = json.loads(text.partition("\n")[0] if '\n{"step"' in text else text)
        known = {field.name for field in fields(PlanState)}
        if not isinstance(values, dict) or values.keys() != known or not isinstance(values["settings"], dict):
            raise ValueError(f"it must hold {', '.join(sorted(known))}")
        for name in ("version", "seed", "epoch", "next_step"):
            if type(values[name]) is not int:
                raise ValueError(f"{name} must be a whole number")
        if not 0 <= values["epoch"] <= MAX_EPOCH:
            raise ValueError(f"epoch {values['epoch']} is not within 0 to {MAX_EPOCH}")
        return PlanState(**values)
    except OSError as error:
        raise InputError(
            str(path), allowed=f"the file cannot be read ({error.strerror})", remedy="name a state file"
        ) from error
    except (ValueError, RecursionError) as error:  # also raised for text that is not JSON
        raise InputError(
            str(path), allowed=f"the file does not hold the state of a plan ({error})", remedy="write the state again"
        ) from error


def _mismatch(where: str, what: str) -> InputError:
    return InputError(
        where, allowed=f"the state belongs to another plan: {what}", remedy="use its settings, or restart the epoch"
    )
