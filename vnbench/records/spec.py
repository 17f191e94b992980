"""What is asked: the frozen specification of a trial, and the words that its fields may hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vnbench.records.identity import digest
from vnbench.records.kind_fields import ALL_KIND_FIELDS, FLAG_FIELDS, KIND_FIELDS
from vnbench.records.once import once_per_object

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
OnOff = Literal["on", "off"]
Cache = Literal["none", "memory", "disk"]
ImageFormat = Literal["png", "tiff-g4", "tiff-deflate", "tiff-zstd"]
Soak = Literal["none", "sampler-order", "largest-first"]
MemoryBy = Literal["step", "trace"]
ShapeVisits = Literal["auto", "warm", "cold"]

DEVICE_TYPES: tuple[DeviceType, ...] = get_args(DeviceType)
TRIAL_KINDS: tuple[TrialKind, ...] = get_args(TrialKind)
SWEPT_KINDS: tuple[TrialKind, ...] = tuple(kind for kind in TRIAL_KINDS if kind != "probe")
"""Kinds that a sweep measures; a probe comes before it and tells how long they will take."""
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
TASKS: tuple[Task, ...] = get_args(Task)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NORM_PRECISIONS: tuple[NormPrecision, ...] = get_args(NormPrecision)
NORM_KERNELS: tuple[NormKernel, ...] = get_args(NormKernel)
CHECKPOINTINGS: tuple[Checkpointing, ...] = get_args(Checkpointing)
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)
MEMORY_FORMATS: tuple[MemoryFormat, ...] = get_args(MemoryFormat)
COMPILES: tuple[Compile, ...] = get_args(Compile)
ALLOCATORS: tuple[Allocator, ...] = get_args(Allocator)
OPTIMIZER_LOOPS: tuple[OptimizerLoop, ...] = get_args(OptimizerLoop)
PADDINGS: tuple[Padding, ...] = get_args(Padding)
WORKER_KINDS: tuple[WorkerKind, ...] = get_args(WorkerKind)
ON_OFF: tuple[OnOff, ...] = get_args(OnOff)
CACHES: tuple[Cache, ...] = get_args(Cache)
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
SOAKS: tuple[Soak, ...] = get_args(Soak)
MEMORY_BYS: tuple[MemoryBy, ...] = get_args(MemoryBy)
SHAPE_VISITS: tuple[ShapeVisits, ...] = get_args(ShapeVisits)

REDUCED_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16")
"""Precisions that run under autocast; only there can the norm's precision differ from its input's."""

DEFAULT_PREFETCH_FACTOR = 2
"""Micro-batches ahead per worker: one in work, one waiting, which evens out the unequal times of ragged batches. Each
more would hold up to 262 MB of shared memory (16 examples of 640 x 12,800)."""

ALIGNMENT = 32
"""Canvas sides are rounded up to this many pixels: the encoder halves the map in five stages."""

NUM_CLASSES: Mapping[Task, int] = {"multiclass": 3, "binary": 2}
"""Classes of each task, background included."""


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class TrialSpec:
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
    model: str
    """Preset of the network, or FILE.py:FUNCTION of a user's own."""
    task: Task
    """Which masks are learnt: three classes, or curve against background."""
    batch_size: int
    """Examples per optimizer step."""
    micro_batch_size: int
    """Examples per forward and backward pass; divides batch_size."""
    precision: Precision
    """Arithmetic of convolutions and matrix products."""
    norm_precision: NormPrecision
    """Whether norms compute in fp32 or in the precision of their input."""
    checkpointing: Checkpointing
    """Which activations are recomputed in the backward pass."""
    seed: int
    """Seed of weights, subset and batch order."""
    norm_groups: str = "half-or-16"
    """Rule for the groups of GroupNorm: ``half-or-16``, or a number of groups."""
    memory_format: MemoryFormat = "contiguous"
    """Order of the numbers of a map in memory."""
    compile: Compile = "none"
    """What torch.compile compiles: the network (``default``), a pass with its loss (``step``), or nothing."""
    cudnn_benchmark: OnOff = "off"
    """Whether cuDNN times its algorithms on each new shape."""
    allocator: Allocator = "native"
    """How the caching allocator takes memory from the driver (PYTORCH_ALLOC_CONF)."""
    optimizer: OptimizerLoop = "fused"
    """How the optimizer goes over the parameters."""
    model_id: str | None = None
    """Digest of the file of a user's own network; None for a preset."""
    padding: Padding = "plain"
    """Whether norms and attention see padded pixels (``plain``) or leave them out (``exact``)."""
    norm_kernel: NormKernel = "native"
    """Whether GroupNorm is torch's kernel or made of reductions that many multiprocessors share (``split``)."""
    cuda_graphs: OnOff = "off"
    """Whether the kernels of a pass are launched one by one, or replayed as a graph captured on each canvas."""
    memory_limit_bytes: int | None = None
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
    sampler: SamplerName | None = None
    """How examples are grouped into batches (``loader``, ``training``; ``memory`` after a soak)."""
    pixel_budget: int | None = None
    """Padded pixels of a pass, at most, where the sampler is ``pixel-budget`` (``loader``, ``training``)."""
    shapes: int | None = None
    """Different canvases, at most; None for as many as come up (``loader``, ``training``)."""
    shape_visits: ShapeVisits = "auto"
    """Whether a pass over each canvas comes before it is timed: vnbench.records.shape_visits (``training``)."""
    num_workers: int | None = None
    """Loader workers; 0 decodes in the training process (``loader``, ``training``)."""
    worker_kind: WorkerKind = "processes"
    """What the loader's workers are (``loader``, ``training``)."""
    prefetch_factor: int = DEFAULT_PREFETCH_FACTOR
    """Micro-batches ahead per loader worker (``loader``, ``training``)."""
    pin_memory: OnOff = "on"
    """Whether batches go to the device through pinned memory; without CUDA nothing does (``loader``, ``training``)."""
    persistent_workers: OnOff = "on"
    """Whether loader workers live on from epoch to epoch (``loader``, ``training``)."""
    cache: Cache = "none"
    """Where decoded images are kept (``loader``, ``training``)."""
    image_format: ImageFormat = "png"
    """Which files of the images are read, of a synthetic corpus (``loader``, ``training``)."""
    cache_limit_bytes: int | None = None
    """Bytes of decoded images and masks that the cache keeps, at most (``loader``, ``training``)."""
    corpus_id: str | None = None
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
        needed, optional = KIND_FIELDS[self.kind]
        for name in ALL_KIND_FIELDS:
            is_given = getattr(self, name) is not None
            if name in needed and not is_given:
                raise ValueError(f"a {self.kind} trial needs {name}")
            if is_given and name not in (*needed, *optional):
                raise ValueError(f"a {self.kind} trial has no {name}")
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
            ValueError: an unknown field, or a value outside its domain.
            TypeError: a required field is missing.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown spec field {', '.join(unknown)}")
        canvas_sizes, passes = values.get("canvas_sizes"), values.get("soak_passes")
        if canvas_sizes is not None:
            values = {**values, "canvas_sizes": tuple((height, width) for height, width in canvas_sizes)}
        if values.get("precisions") is not None:
            values = {**values, "precisions": tuple(values["precisions"])}
        if passes is not None:
            values = {**values, "soak_passes": tuple((count, height, width) for count, height, width in passes)}
        return cls(**values)


_CHOICES: Mapping[str, tuple[str, ...]] = {
    name: get_args(one)
    for name, hint in get_type_hints(TrialSpec).items()
    for one in (hint, *get_args(hint))
    if get_origin(one) is Literal
}
"""Allowed values of each field that holds a word."""
