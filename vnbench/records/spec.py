"""What is asked: the frozen specification of a trial, and the words that its fields may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from vnbench.parsers import several, whole, wholes, word_or
from vnbench.records.identity import digest
from vnbench.records.kind_fields import ALL_KIND_FIELDS, KIND_FIELDS
from vnbench.records.lever import Lever, LeverValue
from vnbench.records.once import once_per_object
from vnbench.records.strict import refusal
from vnbench.units import format_bytes

DeviceType = Literal["cuda", "cpu"]
TrialKind = Literal["memory", "compute", "loader", "training", "probe"]
ModelName = Literal["veernet", "veernet-tiny"]
Task = Literal["multiclass", "binary"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
NormPrecision = Literal["fp32", "input"]
NormKernel = Literal["native", "split"]
Checkpointing = Literal["none", "stages", "selective"]
SamplerName = Literal["random", "step-sorted", "bucketed", "pixel-budget", "sorted"]
MemoryFormat = Literal["contiguous", "channels-last"]
Compile = Literal["none", "default", "step"]
Allocator = Literal["native", "expandable-segments"]
OptimizerLoop = Literal["fused", "foreach", "for-loop"]
Padding = Literal["plain", "exact"]
WorkerKind = Literal["processes", "threads"]
OnOff = Literal["off", "on"]
Cache = Literal["none", "memory", "disk"]
ImageFormat = Literal["png", "tiff-g4", "tiff-deflate", "tiff-zstd"]
Soak = Literal["none", "sampler-order", "largest-first"]
MemoryBy = Literal["step", "trace"]
ShapeVisits = Literal["auto", "warm", "cold"]
SizeLaw = Literal["uniform", "log-uniform"]

DEVICE_TYPES: tuple[DeviceType, ...] = get_args(DeviceType)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)
SWEPT_KINDS: tuple[TrialKind, ...] = tuple(kind for kind in TRIAL_KINDS if kind != "probe")
"""Kinds that a sweep measures; a probe comes before it and tells how long they will take."""
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
TASKS: tuple[Task, ...] = get_args(Task)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NORM_KERNELS: tuple[NormKernel, ...] = get_args(NormKernel)
CHECKPOINTINGS: tuple[Checkpointing, ...] = get_args(Checkpointing)
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
PADDINGS: tuple[Padding, ...] = get_args(Padding)
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
SOAKS: tuple[Soak, ...] = get_args(Soak)
MEMORY_BYS: tuple[MemoryBy, ...] = get_args(MemoryBy)
SIZE_LAWS: tuple[SizeLaw, ...] = get_args(SizeLaw)
"""How the sides of synthetic images are distributed."""

REDUCED_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")
"""Precisions that run under autocast; only there can the norm's precision differ from its input's."""

DEFAULT_PREFETCH_FACTOR = 2
"""Micro-batches ahead per worker: one in work, one waiting, which evens out the unequal times of ragged batches. Each
more would hold up to 262 MB of shared memory (16 examples of 640 x 12,800)."""

ALIGNMENT = 32
"""Canvas sides are rounded up to this many pixels: the encoder halves the map in five stages."""

NUM_CLASSES: Mapping[Task, int] = {"multiclass": 3, "binary": 2}
"""Classes of each task, background included."""


MAX_BATCH_SIZE = 4096
"""Largest batch that is taken for one: on these images a larger number is a typing error."""

MAX_SHAPES = 4096
"""Most canvases that training may be held to: more than an epoch of logs has without being held to any."""

MAX_EPOCH = 2**32 - 1
"""Largest epoch: the lower half of the second word of the Philox key from which its plan is drawn."""

USUAL_GROUPS = "half-or-16"
"""Rule for the groups of GroupNorm: half of the channels, or 16 where that is less."""


def _read_micro_batch(spec: TrialSpec) -> LeverValue:
    """Return the micro-batch, or None where it is the whole batch: it then varies with the batch and is no lever."""
    return spec.micro_batch_size if spec.accumulation_steps > 1 else None


def _read_norm_precision(spec: TrialSpec) -> LeverValue:
    return None if spec.model_id is not None and spec.norm_precision == "fp32" else spec.norm_precision


def _read_norm_groups(spec: TrialSpec) -> LeverValue:
    return None if spec.model_id is not None and spec.norm_groups == USUAL_GROUPS else spec.norm_groups


def _read_shapes(spec: TrialSpec) -> LeverValue:
    return "any" if spec.shapes is None else spec.shapes


def _read_memory_limit(spec: TrialSpec) -> LeverValue:
    return "none" if spec.memory_limit_bytes is None else format_bytes(spec.memory_limit_bytes)


def _parse_groups(text: str, where: str) -> str:
    return USUAL_GROUPS if text == USUAL_GROUPS else str(whole(1, 1024)(text, where))


@dataclass(frozen=True, kw_only=True, slots=True)
class Levers:
    """One value of everything that a sweep can vary.

    A new lever is a field here, and what it does in the trial. Fields with a default are at it unless asked for, so
    that the identity of older specs stays as it is.
    """

    batch_size: Annotated[
        int,
        Lever(
            header="batch",
            phrased="batch {}",
            help="Examples per optimizer step",
            metavar="N,...",
            parse_axis=wholes(1, MAX_BATCH_SIZE),
            swept={"cuda": "1,2,4,8,16", "cpu": "1,2"},
            centre={"cuda": 4},
        ),
    ]
    """Examples per optimizer step."""
    micro_batch_size: Annotated[
        int | None,
        Lever(
            header="micro",
            phrased="micro-batch {}",
            as_phrase={None: "micro-batch = batch"},
            read=_read_micro_batch,
            help="Examples per forward and backward pass, or same",
            metavar="N,...",
            parse_axis=several(word_or("same", None, whole(1, MAX_BATCH_SIZE))),
            swept="same",
        ),
    ]
    """Examples per forward and backward pass; None for the whole batch."""
    precision: Annotated[
        Precision,
        Lever(
            header="preci-\nsion",
            phrased="{}",
            help="Arithmetic of convolutions and matrix products",
            swept={"cuda": "bf16,fp32,tf32,fp16", "cpu": "bf16,fp32"},
            part="computing",
        ),
    ]
    """Arithmetic of convolutions and matrix products."""
    norm_precision: Annotated[
        NormPrecision,
        Lever(
            header="norm",
            phrased="norm in {}",
            as_phrase={None: "own norm", "input": "norm in input precision"},
            read=_read_norm_precision,
            help="Arithmetic of norms: fp32, or input for that of what they get",
            swept="fp32,input",
            part="computing",
            neutral="fp32",
        ),
    ]
    """Whether norms compute in fp32 or in the precision of their input."""
    norm_groups: Annotated[
        str,
        Lever(
            header="norm\ngroups",
            phrased="norm groups {}",
            as_phrase={None: "own norm groups"},
            read=_read_norm_groups,
            help="Groups of GroupNorm: half-or-16, or a number",
            metavar="RULE,...",
            parse_axis=several(_parse_groups),
            part="computing",
            neutral=USUAL_GROUPS,
            words=(USUAL_GROUPS,),
        ),
    ] = USUAL_GROUPS
    """Rule for the groups of GroupNorm: ``half-or-16``, or a number of groups."""
    checkpointing: Annotated[
        Checkpointing,
        Lever(
            header="check-\npoint",
            phrased="checkpointing {}",
            as_phrase={"none": "no checkpointing"},
            help="Which activations are recomputed in the backward pass",
            swept="none,stages",
            part="computing",
            neutral="none",
        ),
    ]
    """Which activations are recomputed in the backward pass."""
    sampler: Annotated[
        SamplerName | None,
        Lever(
            header="sampler",
            phrased="{} sampler",
            help="How images are grouped into batches",
            swept="bucketed,random",
            part="loading",
            needs="several examples",
        ),
    ] = None
    """How examples are grouped into batches (``loader``, ``training``; ``memory`` after a soak)."""
    shapes: Annotated[
        int | None,
        Lever(
            header="shapes",
            phrased="{} shapes",
            read=_read_shapes,
            quiet="any",
            help="Different canvases, at most, or any",
            metavar="N,...",
            parse_axis=several(word_or("any", None, whole(1, MAX_SHAPES))),
            swept="any",
            part="loading",
        ),
    ] = None
    """Different canvases, at most; None for as many as come up (``loader``, ``training``)."""
    shape_visits: Annotated[
        ShapeVisits,
        Lever(
            header="shape\nvisits",
            phrased="{} shapes",
            as_phrase={"auto": "shapes visited as usual"},
            quiet="auto",
            help="warm: each canvas is seen before it is timed; cold: it is not; auto: warm on CUDA or compiled",
        ),
    ] = "auto"
    """Whether a pass over each canvas comes before it is timed: vnbench.records.shape_visits (``training``)."""
    num_workers: Annotated[
        int | None,
        Lever(
            header="work-\ners",
            phrased="{} workers",
            as_phrase={1: "1 worker"},
            help="Loader workers; 0 loads in the training process",
            metavar="N,...",
            parse_axis=wholes(0, 256),
            swept={"cuda": "0,2,4,8", "cpu": "0,2"},
            centre={"cuda": 4},
            part="loading",
        ),
    ] = None
    """Loader workers; 0 decodes in the training process (``loader``, ``training``)."""
    memory_format: Annotated[
        MemoryFormat,
        Lever(
            header="memory\nformat",
            phrased="{} memory",
            help="Order of the numbers of a map in memory",
            part="computing",
            is_switch=True,
        ),
    ] = "contiguous"
    """Order of the numbers of a map in memory."""
    compile: Annotated[
        Compile,
        Lever(
            header="com-\npile",
            phrased="compile {}",
            as_phrase={"none": "not compiled"},
            help="What torch.compile compiles: none, default (the network), step (with its loss)",
            part="computing",
            is_switch=True,
        ),
    ] = "none"
    """What torch.compile compiles: the network (``default``), a pass with its loss (``step``), or nothing."""
    cudnn_benchmark: Annotated[
        OnOff,
        Lever(
            header="cudnn\nbench",
            phrased="cudnn-benchmark {}",
            help="Whether cuDNN times its algorithms on each new shape",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
        ),
    ] = "off"
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: Annotated[
        Allocator,
        Lever(
            header="allo-\ncator",
            phrased="{} allocator",
            help="How the caching allocator takes memory from the driver",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
        ),
    ] = "native"
    """How the caching allocator takes memory from the driver (PYTORCH_ALLOC_CONF)."""
    optimizer: Annotated[
        OptimizerLoop,
        Lever(
            header="opti-\nmizer",
            phrased="{} optimizer",
            help="How the optimizer goes over the parameters",
            part="computing",
            is_switch=True,
        ),
    ] = "fused"
    """How the optimizer goes over the parameters."""
    padding: Annotated[
        Padding,
        Lever(
            header="pad-\nding",
            phrased="{} padding",
            help="plain; exact: norms and attention leave padded pixels out",
            part="computing",
            is_switch=True,
            neutral="plain",
        ),
    ] = "plain"
    """Whether norms and attention see padded pixels (``plain``) or leave them out (``exact``)."""
    norm_kernel: Annotated[
        NormKernel,
        Lever(
            header="norm\nkernel",
            phrased="{} norm kernel",
            help="GroupNorm: native (that of torch), split (reductions over many blocks)",
            part="computing",
            is_switch=True,
            neutral="native",
        ),
    ] = "native"
    """Whether GroupNorm is torch's kernel or made of reductions that many multiprocessors share (``split``)."""
    cuda_graphs: Annotated[
        OnOff,
        Lever(
            header="CUDA\ngraphs",
            phrased="CUDA graphs {}",
            help="Whether passes are replayed as graphs captured on each canvas",
            part="computing",
            is_switch=True,
            is_cuda_only=True,
        ),
    ] = "off"
    """Whether the kernels of a pass are launched one by one, or replayed as a graph captured on each canvas."""
    worker_kind: Annotated[
        WorkerKind,
        Lever(
            header="worker\nkind",
            phrased="workers are {}",
            help="What the loader's workers are",
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = "processes"
    """What the loader's workers are (``loader``, ``training``)."""
    prefetch_factor: Annotated[
        int,
        Lever(
            header="pre-\nfetch",
            phrased="prefetch {}",
            help="Micro-batches ahead per loader worker",
            metavar="N,...",
            parse_axis=wholes(1, 64),
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = DEFAULT_PREFETCH_FACTOR
    """Micro-batches ahead per loader worker (``loader``, ``training``)."""
    pin_memory: Annotated[
        OnOff,
        Lever(
            header="pin",
            phrased="pinned {}",
            as_phrase={"on": "pinned", "off": "not pinned"},
            help="Whether batches go to the device through pinned memory",
            part="loading",
            is_switch=True,
        ),
    ] = "on"
    """Whether batches go to the device through pinned memory; without CUDA nothing does (``loader``, ``training``)."""
    persistent_workers: Annotated[
        OnOff,
        Lever(
            header="per-\nsist",
            phrased="workers persist {}",
            help="Whether loader workers live on from epoch to epoch",
            part="loading",
            is_switch=True,
            needs="workers",
        ),
    ] = "on"
    """Whether loader workers live on from epoch to epoch (``loader``, ``training``)."""
    cache: Annotated[
        Cache,
        Lever(
            header="cache",
            phrased="cache in {}",
            as_phrase={"none": "no cache"},
            help="Where decoded images are kept",
            part="loading",
            is_switch=True,
        ),
    ] = "none"
    """Where decoded images are kept (``loader``, ``training``)."""
    image_format: Annotated[
        ImageFormat,
        Lever(
            header="image\nformat",
            phrased="{} files",
            help="Files of the synthetic images",
            part="loading",
            is_switch=True,
        ),
    ] = "png"
    """Which files of the images are read, of a synthetic corpus (``loader``, ``training``)."""


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialSpec(Levers):
    """One trial, completely: two runs of equal specs on one machine measure the same thing.

    A ``memory`` trial runs one step on a micro-batch of worst-case examples, a ``compute`` trial times steps on batches
    that lie on the device already, canvas by canvas, a ``loader`` trial loads image files and trains on none, a
    ``training`` trial trains on them, a ``probe`` times a few small steps before a sweep is planned. Fields that a kind
    does not have are None or at their defaults.
    """

    kind: TrialKind
    """What is measured."""
    device: DeviceType
    """Where it runs."""
    model: Annotated[str, Lever(header="model", phrased="model {}", words=MODEL_NAMES)]
    """Preset of the network, or FILE.py:FUNCTION of a user's own."""
    task: Annotated[Task, Lever(header="task", phrased="{} task")]
    """Which masks are learnt: three classes, or curve against background."""
    micro_batch_size: int
    """Examples per forward and backward pass; divides batch_size."""
    seed: int
    """Seed of weights, subset and batch order."""
    model_id: str | None = None
    """Digest of the file of a user's own network; None for a preset."""
    memory_limit_bytes: Annotated[
        int | None,
        Lever(
            header="memory\nlimit",
            phrased="memory limit {}",
            read=_read_memory_limit,
            quiet="none",
        ),
    ] = None
    """Memory that there is: for the caching allocator (CUDA), for the process's own data (CPU); None for all."""
    worst_case_height: int | None = None
    """Height in pixels of the examples (``memory``)."""
    worst_case_width: int | None = None
    """Width in pixels of the examples (``memory``)."""
    soak: Soak | None = None
    """Order of the passes before the worst case; None for none of them (``memory``)."""
    soak_passes: tuple[tuple[int, int, int], ...] | None = None
    """Examples, height and width in pixels of the canvas of each pass before the worst case (``memory``)."""
    memory_by: MemoryBy = "step"
    """Whether the worst-case step is run, or traced on fake tensors, which takes no memory (``memory``)."""
    canvas_sizes: tuple[tuple[int, int], ...] | None = None
    """Height and width in pixels of the examples of each canvas, in the order measured (``compute``, ``probe``)."""
    pixel_budget: int | None = None
    """Padded pixels of a pass, at most, where the sampler is ``pixel-budget`` (``loader``, ``training``)."""
    cache_limit_bytes: int | None = None
    """Bytes of decoded images and masks that the cache keeps, at most (``loader``, ``training``)."""
    corpus_id: Annotated[str | None, Lever(header="corpus", phrased="corpus {}")] = None
    """Digest of the image files' manifest (``loader``, ``training``)."""
    subset_size: int | None = None
    """Examples of one measured epoch (``loader``, ``training``)."""
    num_warm_up_steps: int | None = None
    """Optimizer steps before the measured ones, marked: per canvas (``compute``), in all (``training``)."""
    noise_target: float | None = None
    """Half-width of the mean's 95 % interval, relative, that ends measuring (``compute``, ``loader``, ``training``)."""
    min_steps: int | None = None
    """Measured steps per canvas, at least (``compute``)."""
    max_steps: int | None = None
    """Measured steps per canvas, at most (``compute``)."""
    max_epochs: int | None = None
    """Measured epochs of the subset, at most; None for one (``loader``, ``training``)."""
    max_measuring_s: float | None = None
    """Seconds after which no block is measured: per canvas (``compute``), per stage (``loader``), in all (others)."""
    precisions: tuple[Precision, ...] | None = None
    """Precisions that are tried, the one to be preferred first (``probe``)."""
    sweep_id: str | None = None
    """Digest of what the sweep was asked for that the probe comes before (``probe``)."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if (self.model in MODEL_NAMES) != (self.model_id is None):
            raise ValueError(f"model {self.model!r}: must be one of {', '.join(MODEL_NAMES)}, or one with its model_id")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise ValueError(f"{name} {value!r}: must be one of {', '.join(allowed)}")
        if self.norm_groups != "half-or-16" and not (self.norm_groups.isdigit() and int(self.norm_groups) > 0):
            raise ValueError(f"norm_groups {self.norm_groups!r}: must be half-or-16 or a positive number of groups")
        self._check_fields_of_kind()
        if (self.cache == "none") != (self.cache_limit_bytes is None):
            raise ValueError("cache and cache_limit_bytes: one goes with the other")
        for name in ("prefetch_factor", "memory_limit_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value}: must be positive")
        if (self.soak is None) != (not self.soak_passes) or self.soak == "none":
            raise ValueError(f"soak {self.soak!r} and its passes: one goes with the other, and none is None")
        if self.memory_by == "trace" and (self.kind, self.device, self.compile) != ("memory", "cpu", "none"):
            raise ValueError("memory_by 'trace': only memory trials on the CPU are traced, and no compiled code")
        is_warm_again = self.shape_visits == "cold" and (self.max_epochs or 1) > 1
        if is_warm_again or (self.shape_visits != "auto" and self.kind != "training"):
            raise ValueError(f"shape_visits {self.shape_visits!r}: only training has visits, and one epoch is cold")
        if self.canvas_sizes is not None and not self.canvas_sizes:
            raise ValueError("canvas_sizes must hold a canvas")

    def _check_fields_of_kind(self) -> None:
        needed, optional = KIND_FIELDS[self.kind]
        for name in ALL_KIND_FIELDS:
            is_given = getattr(self, name) is not None
            if name in needed and not is_given:
                raise ValueError(f"a {self.kind} trial needs {name}")
            if is_given and name not in (*needed, *optional):
                raise ValueError(f"a {self.kind} trial has no {name}")

    @property
    def num_classes(self) -> int:
        """Classes that the network tells apart, background included."""
        return NUM_CLASSES[self.task]

    @property
    def accumulation_steps(self) -> int:
        """Forward and backward passes per optimizer step."""
        return self.batch_size // self.micro_batch_size

    @property
    def lever_key(self) -> str:
        """The family without its micro-batch: members differ in memory by micro_batch_size alone."""
        canonical = self.canonical()
        return "/".join(
            (
                self.device,
                self.model if self.model_id is None else f"{self.model}-{self.model_id}",
                self.task,
                self.precision,
                f"norm-{self.norm_precision}",
                f"checkpointing-{self.checkpointing}",
                f"groups-{self.norm_groups}",
                *(f"{name.replace('_', '-')}-{canonical[name]}" for name in FLAG_FIELDS if name in canonical),
                *(["limit-" + str(self.memory_limit_bytes)] if self.memory_limit_bytes is not None else []),
            )
        )

    @property
    @once_per_object
    def family(self) -> str:
        """Name of the trials that share memory behaviour."""
        return f"{self.lever_key}/micro-{self.micro_batch_size}"

    @property
    @once_per_object
    def spec_id(self) -> str:
        """Hash of the canonical spec, 12 hexadecimal digits."""
        return digest(self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, sorted by name.

        Defaults are left out so that a field added in a later version leaves the identity of older specs as it is.
        """
        # Fields are plain values and tuples of them, so that nothing has to be copied, as asdict would at length.
        return {
            field.name: getattr(self, field.name)
            for field in sorted(fields(self), key=lambda field: field.name)
            if field.default is MISSING or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialSpec:
        """Return the spec that ``dataclasses.asdict`` or ``canonical`` wrote.

        Raises:
            ValueError: an unknown field, a missing one, or a value of another type or outside its domain.
        """
        unknown = sorted(values.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"unknown spec field {', '.join(unknown)}")
        try:
            spec = msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ValueError(refusal(error, where="spec")) from error
        # 60 and 60.0 are one duration and two texts, and the id is of the text.
        written: dict[str, Any] = {
            name: one for name, one in values.items() if type(one) is int and type(getattr(spec, name)) is float
        }
        return replace(spec, **written) if written else spec


_CHOICES: Mapping[str, tuple[str, ...]] = {
    name: get_args(one)
    for name, hint in get_type_hints(TrialSpec).items()
    for one in (hint, *get_args(hint))
    if get_origin(one) is Literal
}
"""Allowed values of each field that holds a word."""


def _levers() -> Iterator[Lever]:
    """Yield what the fields declare: network and task, then all that a sweep can vary, then the rest."""
    known = {field.name: field for field in fields(TrialSpec)}
    hints = get_type_hints(TrialSpec, include_extras=True)
    hints["micro_batch_size"] = get_type_hints(Levers, include_extras=True)["micro_batch_size"]
    axes = [field.name for field in fields(Levers)]
    for name in ("model", "task", *axes, *(name for name in known if name not in ("model", "task", *axes))):
        for declared in getattr(hints[name], "__metadata__", ()):
            default = None if known[name].default is MISSING else known[name].default
            yield declared.bound(name, words=_CHOICES.get(name, ()), default=default)


LEVERS: Mapping[str, Lever] = {lever.name: lever for lever in _levers()}
"""Every lever by the name of its field, in the order in which columns and phrases stand.

Seeds, subset sizes and warm-up counts are no levers: they choose how a thing is measured, not what.
"""

AXES: Mapping[str, Lever] = {name: lever for name, lever in LEVERS.items() if lever.is_axis}
"""Those that a sweep can vary."""

COMPUTING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "computing")
"""Fields of levers that act on computing, the batch apart."""

LOADING_LEVERS = tuple(name for name, lever in AXES.items() if lever.part == "loading")
"""Fields of levers that act on loading, the batch apart."""

FLAG_FIELDS = tuple(name for name in COMPUTING_LEVERS if LEVERS[name].is_switch)
"""Fields of switches of torch and its libraries, each at its default unless asked for."""

LOADER_FIELDS = tuple(name for name in LOADING_LEVERS if LEVERS[name].is_switch)
"""Fields of the loader's switches, each at its default unless asked for."""
