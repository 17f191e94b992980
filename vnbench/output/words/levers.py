"""The levers of a spec in words for people: which of them vary, and how a trial differs from the sweep's centre."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vnbench.records.spec import (
    ALLOCATORS,
    CACHES,
    CHECKPOINTINGS,
    COMPILES,
    DEFAULT_PREFETCH_FACTOR,
    IMAGE_FORMATS,
    MEMORY_FORMATS,
    MODEL_NAMES,
    NORM_KERNELS,
    OPTIMIZER_LOOPS,
    PADDINGS,
    PRECISIONS,
    SAMPLER_NAMES,
    SHAPE_VISITS,
    TASKS,
    WORKER_KINDS,
    TrialSpec,
)
from vnbench.units import format_bytes

LeverValue = str | int | None
"""Value of a lever; None where the kind of trial has no such lever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """One thing that a sweep can vary."""

    header: str
    """Heading of its column; a line break where a narrow column may break it."""
    value: Callable[[TrialSpec], LeverValue]
    """Reads it from a spec."""
    phrase: Callable[[LeverValue], str]
    """Names a value so that it stands on its own: ``batch 4``, ``random sampler``."""
    default: LeverValue = None
    """Value at which it is named only where a trial has another; None for a lever that is always named."""


def _micro_batch(spec: TrialSpec) -> LeverValue:
    """Return the micro-batch, or None where it is the whole batch: it then varies with the batch and is no lever."""
    return spec.micro_batch_size if spec.accumulation_steps > 1 else None


def _own_norm(spec: TrialSpec, value: str, *, default: str) -> LeverValue:
    """Return a lever of norms, or None where a user's own network has norms as it has them."""
    return None if spec.model_id is not None and value == default else value


LEVERS: Mapping[str, Lever] = {
    "model": Lever(header="model", value=lambda spec: spec.model, phrase=lambda value: f"model {value}"),
    "task": Lever(header="task", value=lambda spec: spec.task, phrase=lambda value: f"{value} task"),
    "batch_size": Lever(header="batch", value=lambda spec: spec.batch_size, phrase=lambda value: f"batch {value}"),
    "micro_batch_size": Lever(
        header="micro",
        value=_micro_batch,
        phrase=lambda value: "micro-batch = batch" if value is None else f"micro-batch {value}",
    ),
    "precision": Lever(header="preci-\nsion", value=lambda spec: spec.precision, phrase=str),
    "norm_precision": Lever(
        header="norm",
        value=lambda spec: _own_norm(spec, spec.norm_precision, default="fp32"),
        phrase=lambda value: (
            "own norm" if value is None else "norm in input precision" if value == "input" else f"norm in {value}"
        ),
    ),
    "norm_groups": Lever(
        header="norm\ngroups",
        value=lambda spec: _own_norm(spec, spec.norm_groups, default="half-or-16"),
        phrase=lambda value: "own norm groups" if value is None else f"norm groups {value}",
    ),
    "checkpointing": Lever(
        header="check-\npoint",
        value=lambda spec: spec.checkpointing,
        phrase=lambda value: "no checkpointing" if value == "none" else f"checkpointing {value}",
    ),
    "sampler": Lever(header="sampler", value=lambda spec: spec.sampler, phrase=lambda value: f"{value} sampler"),
    "shapes": Lever(
        header="shapes",
        value=lambda spec: "any" if spec.shapes is None else spec.shapes,
        phrase=lambda value: f"{value} shapes",
        default="any",
    ),
    "shape_visits": Lever(
        header="shape\nvisits",
        value=lambda spec: spec.shape_visits,
        phrase=lambda value: "shapes visited as usual" if value == "auto" else f"{value} shapes",
        default="auto",
    ),
    "num_workers": Lever(
        header="work-\ners",
        value=lambda spec: spec.num_workers,
        phrase=lambda value: f"{value} worker" if value == 1 else f"{value} workers",
    ),
    "memory_format": Lever(
        header="memory\nformat",
        value=lambda spec: spec.memory_format,
        phrase=lambda value: f"{value} memory",
        default="contiguous",
    ),
    "compile": Lever(
        header="com-\npile",
        value=lambda spec: spec.compile,
        phrase=lambda value: "not compiled" if value == "none" else f"compile {value}",
        default="none",
    ),
    "cudnn_benchmark": Lever(
        header="cudnn\nbench",
        value=lambda spec: spec.cudnn_benchmark,
        phrase=lambda value: f"cudnn-benchmark {value}",
        default="off",
    ),
    "allocator": Lever(
        header="allo-\ncator",
        value=lambda spec: spec.allocator,
        phrase=lambda value: f"{value} allocator",
        default="native",
    ),
    "optimizer": Lever(
        header="opti-\nmizer",
        value=lambda spec: spec.optimizer,
        phrase=lambda value: f"{value} optimizer",
        default="fused",
    ),
    "padding": Lever(
        header="pad-\nding",
        value=lambda spec: spec.padding,
        phrase=lambda value: f"{value} padding",
        default="plain",
    ),
    "norm_kernel": Lever(
        header="norm\nkernel",
        value=lambda spec: spec.norm_kernel,
        phrase=lambda value: f"{value} norm kernel",
        default="native",
    ),
    "cuda_graphs": Lever(
        header="CUDA\ngraphs",
        value=lambda spec: spec.cuda_graphs,
        phrase=lambda value: f"CUDA graphs {value}",
        default="off",
    ),
    "worker_kind": Lever(
        header="worker\nkind",
        value=lambda spec: spec.worker_kind,
        phrase=lambda value: f"workers are {value}",
        default="processes",
    ),
    "prefetch_factor": Lever(
        header="pre-\nfetch",
        value=lambda spec: spec.prefetch_factor,
        phrase=lambda value: f"prefetch {value}",
        default=DEFAULT_PREFETCH_FACTOR,
    ),
    "pin_memory": Lever(
        header="pin",
        value=lambda spec: spec.pin_memory,
        phrase=lambda value: "pinned" if value == "on" else "not pinned",
        default="on",
    ),
    "persistent_workers": Lever(
        header="per-\nsist",
        value=lambda spec: spec.persistent_workers,
        phrase=lambda value: f"workers persist {value}",
        default="on",
    ),
    "cache": Lever(
        header="cache",
        value=lambda spec: spec.cache,
        phrase=lambda value: "no cache" if value == "none" else f"cache in {value}",
        default="none",
    ),
    "image_format": Lever(
        header="image\nformat",
        value=lambda spec: spec.image_format,
        phrase=lambda value: f"{value} files",
        default="png",
    ),
    "memory_limit_bytes": Lever(
        header="memory\nlimit",
        value=lambda spec: "none" if spec.memory_limit_bytes is None else format_bytes(spec.memory_limit_bytes),
        phrase=lambda value: f"memory limit {value}",
        default="none",
    ),
    "corpus_id": Lever(header="corpus", value=lambda spec: spec.corpus_id, phrase=lambda value: f"corpus {value}"),
}
"""Every lever by the name of its spec field, in the order in which columns and phrases stand.

Seeds, subset sizes and warm-up counts are no levers: they choose how a thing is measured, not what.
"""

Levers = Mapping[str, LeverValue]
"""Values by lever name."""


def levers_of(spec: TrialSpec) -> dict[str, LeverValue]:
    """Return the value of every lever of a spec; None for those that its kind of trial does not have."""
    return {name: lever.value(spec) for name, lever in LEVERS.items()}


def kind_told(spec: TrialSpec) -> str:
    """Return the kind of a trial in words: that memory was traced is no lever, but to be said."""
    return "traced memory" if spec.memory_by == "trace" else spec.kind


def varying(specs: Iterable[TrialSpec]) -> tuple[str, ...]:
    """Return the names of the levers that have more than one value among ``specs``."""
    values = [levers_of(spec) for spec in specs]
    return tuple(name for name in LEVERS if len({value[name] for value in values}) > 1)


def worth_naming(specs: Iterable[TrialSpec]) -> tuple[str, ...]:
    """Return the names of the levers that a reader of ``specs`` asks for: all but switches at their defaults."""
    values = [levers_of(spec) for spec in specs]
    return tuple(
        name
        for name, lever in LEVERS.items()
        if lever.default is None or any(value[name] != lever.default for value in values)
    )


def centre_of(specs: Sequence[TrialSpec]) -> dict[str, LeverValue]:
    """Return the most common value of every lever, the configuration that a one-at-a-time sweep varies from.

    Of equally common values (a full design) the one that comes first counts: no micro-batching, the smallest number,
    and among words the order of the spec's domain (fp32 before bf16, none before stages, random before bucketed).

    Raises:
        ValueError: no specs.
    """
    if not specs:
        raise ValueError("no specs have no centre")
    centre: dict[str, LeverValue] = {}
    for name in LEVERS:
        counts = Counter(LEVERS[name].value(spec) for spec in specs)
        centre[name] = min((value for value, times in counts.items() if times == max(counts.values())), key=_rank)
    return centre


def differences(levers: Levers, *, centre: Levers, ignored: Iterable[str] = ()) -> dict[str, LeverValue]:
    """Return the levers whose values are not the centre's, without the ``ignored`` ones."""
    skipped = set(ignored)
    return {name: value for name, value in levers.items() if name not in skipped and value != centre[name]}


def phrases(levers: Levers, *, names: Iterable[str]) -> str:
    """Return the values of the named levers as one phrase: ``batch 4, bf16, random sampler``."""
    chosen = set(names)
    return ", ".join(LEVERS[name].phrase(levers[name]) for name in LEVERS if name in chosen)


def describe(spec: TrialSpec, *, names: Iterable[str]) -> str:
    """Return the named levers of a spec as one phrase, without those that its kind of trial does not have."""
    levers = levers_of(spec)
    if spec.kind != "compute":
        # Without a micro-batch of its own a trial has one all the same; any other lever that is None it does not have.
        return phrases(levers, names=[n for n in names if levers[n] is not None or n == "micro_batch_size"])
    # Its batch is one pass: a micro-batch, whatever the optimizer step is made of.
    chosen = [name for name in names if levers[name] is not None and name != "batch_size"]
    size = LEVERS["micro_batch_size"].phrase(spec.micro_batch_size) if "batch_size" in names else ""
    return ", ".join(filter(None, (size, phrases(levers, names=chosen))))


_WORDS = (
    *MODEL_NAMES,
    *TASKS,
    *PRECISIONS,
    "input",
    *CHECKPOINTINGS,
    *SAMPLER_NAMES,
    *SHAPE_VISITS,
    "half-or-16",
    *MEMORY_FORMATS,
    *COMPILES,
    "off",
    "on",
    *ALLOCATORS,
    *OPTIMIZER_LOOPS,
    *PADDINGS,
    *NORM_KERNELS,
    *WORKER_KINDS,
    *CACHES,
    *IMAGE_FORMATS,
)


def _rank(value: LeverValue) -> tuple[int, int, str]:
    if value is None:
        return 0, 0, ""
    if isinstance(value, int):
        return 1, value, ""
    return 2, _WORDS.index(value) if value in _WORDS else len(_WORDS), value
