"""Where a training run stands in its epoch, and how it goes on from there: the plan made again, and an offset."""

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
"""Version of the rules that make a plan; a later one that plans otherwise has another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanState:
    """A place in an epoch, in a few words: the plan itself is made again."""

    version: int
    """Version of the rules that made the plan."""
    seed: int
    """Seed of the order."""
    epoch: int
    """Epoch, from 0."""
    next_step: int
    """The first optimizer step that is still to be taken, from 0 at the start of the epoch."""
    plan_hash: str
    """Digest of the epoch's plan."""
    config_hash: str
    """Digest of the settings and the sizes."""
    settings: Mapping[str, Any]
    """What config_hash is made from, so that a mismatch can be named."""

    def to_json(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))


def settings_of(sizes_N2: SizeArray, config: PlanConfig) -> dict[str, Any]:
    """Return all that a plan depends on beside the epoch, the sizes as a digest."""
    return {
        **asdict(config),
        "num_examples": len(sizes_N2),
        "sizes": hashlib.sha256(np.ascontiguousarray(sizes_N2, dtype="<i8").tobytes()).hexdigest()[:12],
    }


class EpochSampler:
    """The micro-batches of one epoch after another, from wherever a run stopped.

    It can be the ``batch_sampler`` of a torch DataLoader: iterating yields the examples of each micro-batch. The
    optimizer's count of steps is the trainer's own, because a loader fetches ahead of it: ``state`` takes it.
    """

    def __init__(self, sizes_N2: SizeArray, config: PlanConfig) -> None:
        self._sizes_N2 = sizes_N2
        self._config = config
        self._first_step = 0
        self._is_used = False
        self._epoch = 0
        self._plan = plan_epoch(sizes_N2, config, epoch=0)

    @property
    def plan(self) -> BatchPlan:
        """The plan of the whole epoch."""
        return self._plan

    @property
    def remaining_steps(self) -> tuple[tuple[MicroBatch, ...], ...]:
        """The optimizer steps that the next iteration will yield."""
        return self._plan.steps[self._first_step :]

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch.

        Raises:
            ValueError: the epoch is out of range.
        """
        self._plan = plan_epoch(self._sizes_N2, self._config, epoch=epoch)
        self._epoch = epoch
        self._first_step = 0
        self._is_used = False

    def __len__(self) -> int:
        return sum(map(len, self.remaining_steps))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the examples of each remaining micro-batch.

        Nothing happens before the first micro-batch is asked for: a DataLoader with workers makes two iterators at its
        start and advances one of them. What is yielded is what remains then.

        Raises:
            InputError: the epoch was iterated already: without ``set_epoch`` each would be the same.
        """
        if self._is_used:
            raise InputError(
                "epoch",
                self._epoch,
                allowed="it was iterated already, and every pass over it would be the same",
                remedy=f"call set_epoch({self._epoch + 1}) before the next epoch",
            )
        self._is_used = True
        for step in self.remaining_steps:
            for micro_batch in step:
                yield list(micro_batch.examples)

    def state(self, *, next_step: int) -> PlanState:
        """Return the state in which ``next_step`` optimizer steps of this epoch are done.

        Raises:
            ValueError: the epoch has fewer steps.
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
        """Go to where a state stands; the next iteration yields what remains.

        Raises:
            InputError: the state is of another plan; the message names what differs.
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
            raise _mismatch(where, "its settings are not those that its config_hash was made from")
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


def read_state(path: Path) -> PlanState:
    """Return the state that a file holds, as ``PlanState.to_json`` wrote it, or that a plan file begins with.

    Raises:
        InputError: the file cannot be read or holds no state.
    """
    try:
        # A plan file begins with its state: one line of several.
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
            str(path), allowed=f"the file cannot be read ({error.strerror})", remedy="name the file of a state"
        ) from error
    except (ValueError, RecursionError) as error:  # text that is no JSON too
        raise InputError(
            str(path), allowed=f"the file holds no state of a plan ({error})", remedy="write the state anew"
        ) from error


def _mismatch(where: str, what: str) -> InputError:
    return InputError(
        where, allowed=f"the state is of another plan: {what}", remedy="plan with its settings, or start the epoch anew"
    )
