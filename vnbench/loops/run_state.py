"""Take the state of a training run as plain values, and put it back: nothing is changed before all of it is checked."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vnbench.batching.resume import EpochSampler, PlanState
from vnbench.errors import InputError

STATE_VERSION = 1
"""Version of a snapshot's content; a later one is refused."""

PLAIN = (str, int, float, bool, type(None))
"""Types of values that a snapshot may hold beside tensors: reading them back runs no code."""


class Stateful(Protocol):
    """A scheduler or a gradient scaler."""

    def state_dict(self) -> dict[str, Any]:
        """Return its state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The objects of a training run whose state a snapshot keeps."""

    model: nn.Module
    """The network, before DistributedDataParallel or compilation wraps it."""
    optimizer: Optimizer
    """Its optimizer."""
    sampler: EpochSampler | None = None
    """The plan of its batches; without one the counters alone tell the position."""
    scheduler: Stateful | None = None
    """The schedule of its learning rate."""
    scaler: Stateful | None = None
    """The gradient scaler of fp16."""
    settings: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """What has to be equal in a run that goes on, such as the precision and the number of devices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a run goes on."""

    epoch: int = 0
    """Epoch, from 0."""
    next_step: int = 0
    """Next optimizer step of the epoch, from 0."""
    counters: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """Whatever else the loop counts, as it was saved."""


def state_of(run: Run, position: Position, *, is_copied: bool) -> dict[str, Any]:
    """Return the state of a run as plain values and tensors, at the end of an optimizer step.

    With ``is_copied`` every tensor is a copy on the host, also Adam's ``step``, so that training can go on.

    Raises:
        InputError: a part holds a value that cannot be read back without running code.
        ValueError: the position is none of the sampler's epoch.
    """
    plan = None if run.sampler is None else run.sampler.state(next_step=position.next_step)
    if plan is not None and plan.epoch != position.epoch:
        raise ValueError(f"epoch {position.epoch}: the sampler is in epoch {plan.epoch}")
    return {
        "version": STATE_VERSION,
        "key": _key_of(run),
        "parts": {name: _plain(part.state_dict(), name, is_copied=is_copied) for name, part in _parts_of(run).items()},
        "plan": None if plan is None else plan.to_json(),
        "random": random_state(),
        "epoch": position.epoch,
        "next_step": position.next_step,
        "counters": _plain(dict(position.counters), "counters", is_copied=is_copied),
    }


def restore(run: Run, state: Mapping[str, Any], *, where: str) -> Position:
    """Put the state back into the objects of a run, and return where it goes on.

    Raises:
        InputError: the state is of a later version, or of another model, optimizer, plan or setting: what differs is
            named, and nothing was changed.
    """
    try:
        _check(run, state, where=where)
        if run.sampler is not None:  # refuses another plan before it changes anything
            run.sampler.resume(PlanState(**json.loads(state["plan"])), where=where)
        for name, part in _parts_of(run).items():
            part.load_state_dict(state["parts"][name])
        set_random_state(state["random"])
        return Position(epoch=state["epoch"], next_step=state["next_step"], counters=state["counters"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise _refused(where, f"it does not hold the state of a run ({error})") from error


def _check(run: Run, state: Mapping[str, Any], *, where: str) -> None:
    if state["version"] != STATE_VERSION:
        raise _refused(where, f"it is of version {state['version']!r}, this vnbench reads version {STATE_VERSION}")
    differences = _differences(state["key"], _key_of(run))
    if differences:
        raise _refused(where, f"it is of another run: {', '.join(differences)}")
    there = [*state["parts"], *(["sampler"] if state["plan"] is not None else [])]
    here = [*_parts_of(run), *(["sampler"] if run.sampler is not None else [])]
    if there != here:
        raise _refused(where, f"it holds {', '.join(there)}, the run has {', '.join(here)}")


def random_state() -> dict[str, Any]:
    """Return the states of torch's, NumPy's and Python's global generators, as tensors and plain values.

    Those of CUDA are there if the process has used it.
    """
    version, numbers, gauss = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    has_used_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if has_used_cuda else [],
        "numpy": [algorithm, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the states of the global generators back."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    algorithm, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))


def num_bytes(run: Run) -> int:
    """Return about how many bytes a snapshot takes: before the first step an optimizer is taken to keep two moments."""
    model = sum(tensor.nbytes for tensor in run.model.state_dict().values() if isinstance(tensor, Tensor))
    kept = [value for states in run.optimizer.state.values() for value in states.values() if isinstance(value, Tensor)]
    return model + (sum(tensor.nbytes for tensor in kept) or 2 * model)


def _parts_of(run: Run) -> dict[str, Any]:
    parts = {"model": run.model, "optimizer": run.optimizer, "scheduler": run.scheduler, "scaler": run.scaler}
    return {name: part for name, part in parts.items() if part is not None}


def _key_of(run: Run) -> dict[str, Any]:
    """Return what has to be equal in the run that goes on."""
    tensors = {
        name: f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        for name, value in run.model.state_dict().items()
        if isinstance(value, Tensor)
    }
    groups = [len(group["params"]) for group in run.optimizer.param_groups]
    return {
        "model": tensors,
        "optimizer": f"{type(run.optimizer).__name__} of {'+'.join(map(str, groups))} tensors",
        "settings": dict(run.settings),
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what differs, most telling first: the first tensor alone, since another network differs in many."""
    said = [
        f"{name} {there['settings'].get(name, 'missing')!r} there, {here['settings'].get(name, 'missing')!r} here"
        for name in {**there["settings"], **here["settings"]}
        if there["settings"].get(name, "missing") != here["settings"].get(name, "missing")
    ]
    for name in {**there["model"], **here["model"]}:
        of_there, of_here = there["model"].get(name, "missing"), here["model"].get(name, "missing")
        if of_there != of_here:
            said.append(f"the model's {name} is {of_there} there, {of_here} here")
            break
    if there["optimizer"] != here["optimizer"]:
        said.append(f"the optimizer is {there['optimizer']} there, {here['optimizer']} here")
    return said


def _refused(where: str, what: str) -> InputError:
    return InputError(where, allowed=what, remedy="build the run as it was, or name another folder to begin anew")


def _plain(value: Any, name: str, *, is_copied: bool) -> Any:
    """Return a state of plain containers, with the data of tensors alone.

    Raises:
        InputError: it holds a value of another type.
    """
    if isinstance(value, Tensor):
        data = value.detach()
        # A view would be written with all of the memory that it lies in.
        is_view = data.untyped_storage().nbytes() > data.nbytes
        return data.to("cpu", copy=True) if is_copied else data.clone() if is_view else data
    if isinstance(value, np.generic):
        return _plain(value.item(), name, is_copied=is_copied)
    if isinstance(value, Counter):  # milestones of a scheduler
        return Counter({key: _plain(one, f"{name}.{key}", is_copied=is_copied) for key, one in value.items()})
    if isinstance(value, dict):
        return {key: _plain(one, f"{name}.{key}", is_copied=is_copied) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_plain(one, f"{name}.{index}", is_copied=is_copied) for index, one in enumerate(value)])
    if type(value) in PLAIN:
        return value
    raise InputError(
        name,
        type(value).__name__,
        allowed="a snapshot holds tensors, numbers, texts and lists, so that reading it runs no code",
        remedy="leave it out of the state_dict, or turn it into one of these",
    )
