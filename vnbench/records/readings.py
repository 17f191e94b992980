"""Define the readings of a trial's instruments, which are parts of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from vnbench.records.values.strict import Bytes, Count, Number, Pixels, Ratio, Seconds, SignedBytes, SignedSeconds


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchingAccount:
    """The padding account of one epoch's plan."""

    num_examples: Count
    """Examples in the plan."""
    num_batches: Count
    """Micro-batches: forward and backward passes."""
    num_steps: Count
    """Optimizer steps."""
    valid_pixels: Pixels
    """Sum of height x width."""
    padded_pixels: Pixels
    """Sum of the canvases' pixels."""
    padding_ratio: Number
    """1 - valid_pixels / padded_pixels."""
    lower_bound_padding_ratio: Number
    """Lower bound of padding_ratio for any grouping into the same number of micro-batches."""
    distinct_shapes: Count
    """Number of different (examples, height, width) canvases."""
    repeated_pair_ratio: Ratio | None
    """Share of the pairs within a step that also shared a step in the previous epoch; None without pairs."""
    repeated_pair_ratio_two_before: Ratio | None = None
    """The same for the epoch before the previous one."""
    repeated_pair_ratio_either: Ratio | None = None
    """The same for either of the two: at least the larger share, at most the sum of both."""
    largest_padded_pixels: Pixels | None = None
    """Padded pixels of the largest micro-batch, which determines the memory of the plan."""
    lag_1_width_correlation: Number | None = None
    """Correlation of the mean widths of consecutive full steps; near 0 if their order is random."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryReading:
    """Peak memory of a trial, in bytes. Values that the instrument does not see are None."""

    instrument: Literal[
        "cuda-caching-allocator", "live-tensors", "traced-tensors", "process", "live-tensor-tracker", "traced"
    ]
    """What counted the bytes. ``live-tensors`` does not see oneDNN's workspace; ``traced-tensors`` is the same count in
    a step on fake tensors, which computes nothing. Older records say ``live-tensor-tracker`` and ``traced``: those held
    the gradients of the step before until the step ended, so that their peaks are higher by the gradients' bytes."""
    peak_allocated_bytes: Bytes | None
    """Most bytes held by tensors at once."""
    peak_reserved_bytes: Bytes | None
    """Most bytes held by the caching allocator (CUDA), including those from before the peaks were reset: the memory
    that the card must have."""
    num_alloc_retries: Count | None
    """Number of times that the caching allocator emptied its cache and tried again (CUDA)."""
    process_peak_rss_bytes: Bytes | None
    """Largest resident set of the trial's process on the host."""
    capacity_bytes: Bytes | None
    """Memory of the device, or the limit that was set; on the CPU, memory of the host or container."""
    cold_peak_allocated_bytes: Bytes | None = None
    """Most bytes held by tensors in the first step on the worst case, in which libraries may try algorithms (CUDA)."""
    soak_peak_allocated_bytes: Bytes | None = None
    """Most bytes held by tensors in the passes before the worst case; None without such passes."""
    peak_requested_bytes: Bytes | None = None
    """Most bytes requested at once, before the caching allocator rounds them up (CUDA)."""
    num_operators: Count | None = None
    """Operations that torch dispatched in the step that the live-tensor tracker watched (CPU), run or traced."""
    outside_allocator_bytes: SignedBytes | None = None
    """Bytes in use on the device after the step, outside the caching allocator: the CUDA context, libraries, and other
    processes, if any (CUDA)."""

    @property
    def holds_old_gradients(self) -> bool | None:
        """Whether a peak of live tensors is higher by the gradients of the step before; None of other instruments."""
        if self.instrument in ("live-tensors", "traced-tensors"):
            return False
        return True if self.instrument in ("live-tensor-tracker", "traced") else None


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualityReading:
    """The error of one step of a configuration against the plain configuration, on equal canvas, weights and examples.

    The plain configuration is fp32, no checkpointing, contiguous layout, not compiled, in a single pass. Errors are
    relative. The error of the gradient is the norm of the difference over the norm, for the whole gradient.
    """

    loss_error: Ratio | None
    """Error of the loss; None if it was not a number."""
    gradient_error: Ratio | None
    """Error of the gradient; None if it was not a number."""
    rounding_loss_error: Ratio
    """Error of the plain step's loss after rounding weights and images to the configuration's precision."""
    rounding_gradient_error: Ratio
    """Error of the plain step's gradient after the same rounding."""
    loss_tolerance: Ratio
    """Largest error of the loss that counts as equal."""
    gradient_tolerance: Ratio
    """Largest error of the gradient that counts as equal."""
    height: Pixels
    """Height of the canvas in pixels."""
    width: Pixels
    """Width of the canvas in pixels."""
    num_examples: Count
    """Examples of the step."""
    num_passes: Count
    """Number of passes into which the configuration divided the step."""
    elapsed_s: SignedSeconds
    """Seconds that the comparison took, before anything was timed."""

    @property
    def is_equal(self) -> bool:
        """Whether both errors are within their tolerances."""
        return (
            self.loss_error is not None
            and self.gradient_error is not None
            and self.loss_error <= self.loss_tolerance
            and self.gradient_error <= self.gradient_tolerance
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReading:
    """Whether steps through a framework leave the same bits in every parameter as those of the own loop.

    Both start from equal weights and take the same passes.
    """

    differs_in: str | None
    """Name of the first parameter that is not equal to the bit; None if all are."""
    is_reproducible: bool
    """Whether the own loop gives the same bits twice; where it does not, a difference says nothing."""
    num_steps: Count
    """Optimizer steps that were compared."""
    num_passes: Count
    """Passes of all of them; the last step has fewer than the others."""
    elapsed_s: SignedSeconds
    """Seconds that the comparison took, before anything was timed."""

    @property
    def is_equal(self) -> bool:
        """Whether nothing speaks against equality."""
        return self.differs_in is None or not self.is_reproducible


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsReading:
    """The network's weights at a moment that processes of one spec share."""

    digest: str
    """Digest of all parameters, to the bit."""
    num_updates: Count
    """Optimizer updates by then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartReading:
    """What going on from a snapshot takes, in seconds, from the start of a process to where it would have been."""

    interpreter_s: Seconds
    """Python, without a program."""
    imports_s: Seconds
    """Modules, torch above all."""
    set_up_s: Seconds
    """Device, network, and the list of the images."""
    load_s: Seconds
    """Reading and checking of the snapshot, and taking it back."""
    loader_s: Seconds
    """First batch: loader and its workers."""
    first_steps_s: Seconds
    """What the steps of the first epoch take beyond those of a process that met their shapes before."""

    @property
    def total_s(self) -> float:
        """Seconds of all of it."""
        parts_s = (self.interpreter_s, self.imports_s, self.set_up_s, self.load_s, self.loader_s, self.first_steps_s)
        return sum(parts_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotReading:
    """What snapshots cost a training, and what going on from one takes."""

    num_bytes: Bytes
    """Size of a snapshot."""
    file_system: str | None
    """Type of the file system that holds them; None if unknown."""
    num_steps: Count
    """Optimizer steps of an epoch."""
    num_saves: Count
    """Snapshots of an epoch that has them."""
    held_up_s: tuple[Seconds, ...]
    """Seconds for which each snapshot held up training."""
    written_s: tuple[Seconds, ...]
    """Seconds from the start of each snapshot until it was on the disk."""
    read_s: tuple[Seconds, ...]
    """Seconds to read and check one, each time."""
    epoch_pairs_s: tuple[tuple[Seconds, Seconds], ...]
    """Seconds of an epoch's steps without snapshots, and with them and what they held up, in turn."""
    restart: RestartReading | None
    """What going on takes; None if it was not reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedReading:
    """What was seen of an epoch of a run that somebody else's loop trained, beside its steps."""

    epoch: Count
    """Number of the epoch, as the run counts it."""
    framework: str | None
    """Framework that ran the loop, with its version; None for a loop by hand."""
    sampler: str
    """Class of what groups the examples."""
    num_passes: Count
    """Passes of a whole optimizer step."""
    num_short_steps: Count
    """Optimizer steps of fewer passes."""
    largest_canvas: tuple[Pixels, Pixels]
    """Height and width of the pass with most pixels, among those of a whole micro-batch."""
    num_snapshots: Count
    """Snapshots that were saved."""
    validation_s: Seconds | None
    """Seconds of the validations during the epoch; None without one."""
    observing_s: Seconds
    """Seconds that watching took of the training process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeTensorReading:
    """The error of a pass with a tensor of more than 2^31 elements against the same examples in smaller passes.

    None means not compared: there was not enough memory, or no smaller pass.
    """

    num_elements: Count
    """Elements of the largest tensor of the forward pass."""
    height: Pixels
    """Height of the examples in pixels."""
    width: Pixels
    """Width of the examples in pixels."""
    num_examples: Count
    """Examples of the pass."""
    num_parts: Count | None = None
    """Number of smaller passes that it was compared with."""
    logits_error: Ratio | None = None
    """Error of the last example's logits where they differ most: the root mean square of the difference over that of
    the logits; None if it was not a number."""
    gradient_error: Ratio | None = None
    """Norm of the gradients' difference over the norm; None if it was not a number."""
    image_gradient_error: Ratio | None = None
    """Error of the gradient on the last example's image, computed as for its logits; None if it was not a number."""
    tolerance: Ratio | None = None
    """Largest error that counts as equal."""
    elapsed_s: SignedSeconds | None = None
    """Seconds that the comparison took."""

    @property
    def is_equal(self) -> bool | None:
        """Whether all errors are within the tolerance; None if nothing was compared."""
        if self.tolerance is None:
            return None
        errors = (self.logits_error, self.image_gradient_error, self.gradient_error)
        return all(error is not None and error <= self.tolerance for error in errors)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Totals of the measured blocks of a trial."""

    wall_time_s: Seconds
    """Wall-clock seconds from the synchronised start to the synchronised end, summed over the blocks."""
    num_steps: Count
    """Measured optimizer steps."""
    num_examples: Count
    """Measured examples."""
    valid_pixels: Pixels
    """Valid pixels of the measured examples."""
    padded_pixels: Pixels
    """Padded pixels of the measured examples."""


StopRule = Literal["noise-target", "max-steps", "max-epochs", "max-measuring-time"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """Why measuring ended."""

    rule: StopRule
    """The rule that fired first."""
    noise_target: Ratio | None
    """Requested relative half-width; None if the number of steps was fixed."""
    relative_half_width: Ratio | None
    """Relative half-width of the 95 % interval at the end; None below two observations.

    For a training trial it covers differences between steps on the same canvas, and is None if no canvas was repeated.
    In older records it also covers differences between canvases in cost per pixel, which are not noise.
    """
    num_steps: Count
    """Measured steps."""
    num_observations: Count | None
    """Observations behind the interval (its degrees of freedom plus 1): steps, or groups of steps if consecutive steps
    were correlated; for a training trial, minus one step for each canvas."""
    measuring_s: SignedSeconds
    """Wall-clock seconds in the measured blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForecastReading:
    """The forecast of a training trial from trials of its parts, made before it ran."""

    value_s: SignedSeconds
    """Seconds of one epoch of the measured subset."""
    low_s: SignedSeconds | None
    """Lower end of the 90 % interval; None without an interval."""
    high_s: SignedSeconds | None
    """Upper end of the 90 % interval; None without an interval."""
    num_examples: Count
    """Examples of that epoch."""


LoaderStageName = Literal[
    "plan",  # planning an epoch of all training examples; each plan is one wait
    "decode",  # decoding, in the training process
    "collate",  # decoding and padding, in the training process
    "empty-workers",  # worker processes that send batches without pixels
    "workers",  # decoding and padding in workers, and sending
    "pinned",  # the same with a copy into pinned memory
    "h2d",  # the same with the copy to the device
    "device",  # the same with the conversion on the device to the network's input
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderStage:
    """Time to load batches up to one stage, without training on them."""

    name: LoaderStageName
    """The last stage that is included; each stage includes those before it."""
    waits_s: tuple[SignedSeconds, ...]
    """Seconds that the training process spent on each measured batch."""
    num_examples: Count
    """Measured examples."""
    valid_pixels: Pixels
    """Sum of their height x width."""
    padded_pixels: Pixels
    """Sum of the canvases' pixels."""
    payload_bytes: Bytes
    """Bytes of the batches that came from worker processes."""
    start_up_s: SignedSeconds | None
    """Seconds from the start of the workers to the first batch; None without workers."""
    host_bytes: Bytes | None
    """Memory of the process and its workers after the last batch, shared memory counted once; None if unknown."""
    stop: Stop
    """Why measuring ended."""
    is_cold: bool = False
    """Whether the files had to be read from disk."""
    cached_ratio: Ratio | None = None
    """Share of the files that the page cache still held before a cold stage; None if unknown."""

    @property
    def wall_time_s(self) -> float:
        """Seconds of all measured batches."""
        return sum(self.waits_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasReading:
    """The readings of a compute trial on one canvas."""

    height: Pixels
    """Height of the canvas in pixels."""
    width: Pixels
    """Width of the canvas in pixels."""
    first_seen_s: SignedSeconds
    """Seconds of the first step on this canvas; unlike later steps it pays for plans, compilation and new memory."""
    peak_allocated_bytes: Bytes | None
    """Most bytes held by tensors at once: in the measured steps (CUDA), or in a separate step after them (CPU)."""
    peak_reserved_bytes: Bytes | None
    """Most bytes held by the caching allocator by the end of the measured steps (CUDA)."""
    host_growth_bytes: SignedBytes | None
    """Growth of the process's resident set from before the first step on this canvas to after the last."""
    flop_per_step: Count | None
    """Floating-point operations in the forward and backward passes of one step, by torch's counter. A multiply-add
    counts as two; recomputation by checkpointing does not count."""
    stop: Stop
    """Why measuring this canvas ended."""
    loop_pairs_s: tuple[tuple[Seconds, Seconds], ...] = ()
    """Seconds of a step by the own loop and by the framework's, in turn; empty for the own loop."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A number of bytes that is not known, but for what it lies between."""

    low: Bytes
    """Its lower end."""
    high: Bytes
    """Its upper end."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A time that is not known, but for what it lies between."""

    low: Seconds
    """Seconds that it cannot fall below."""
    central: Seconds
    """Seconds in the middle of what is known of such times."""
    high: Seconds
    """Its upper end in seconds."""

    def __add__(self, other: TimeRange) -> TimeRange:
        """Return both one after the other."""
        return TimeRange(self.low + other.low, self.central + other.central, self.high + other.high)


CardVerdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasForecast:
    """What an optimizer step on one canvas is forecast to take."""

    height: Pixels
    """Height of the canvas in pixels."""
    width: Pixels
    """Width of the canvas in pixels."""
    allocated_bytes: ByteRange
    """Most bytes of the caching allocator's blocks in use."""
    reserved_bytes: ByteRange
    """Most bytes that the caching allocator takes from the driver."""
    step_time_s: TimeRange | None
    """The step, reductions included; None for a card of which only the memory is known."""
    reducing_s: TimeRange | None
    """What reductions take of it that have fewer blocks than the card has multiprocessors; None likewise."""
    num_kernels: Count
    """Operators that move something."""
    moved_bytes: Bytes
    """Bytes that they read and write, each tensor once."""
    flop: Count
    """Floating-point operations, recomputation included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CardForecast:
    """What a step is forecast to take on a card: always a bracket, and nothing of it measured."""

    canvases: tuple[CanvasForecast, ...]
    """The smallest examples' canvas, and last that of the worst case."""
    device_bytes: ByteRange
    """Worst case of the card's memory, the context included."""
    card_bytes: Bytes
    """Memory of the card."""
    verdict: CardVerdict
    """Whether the worst case fits."""
    num_retries: Count
    """Times that the allocator would give back its cache on this card to go on, at the upper end."""
    operators: Mapping[str, Count]
    """How often each operator runs in a step of the worst case, by name."""
    notes: tuple[str, ...] = ()
    """What was traced otherwise than it would run."""

    @property
    def worst_case(self) -> CanvasForecast:
        """The forecast of the largest canvas."""
        return self.canvases[-1]


Metric = Literal[
    "status",  # how the trial ended
    "time",  # of a step, a megapixel or a benchmark's round
    "memory",  # most bytes held by tensors
    "reserved",  # most bytes held by the caching allocator
    "padding",  # padded pixels per valid pixel, of the measured examples
    "epoch_padding",  # the same for the plan of all training examples
    "shapes",  # distinct canvases in an epoch's plan
    "operators",  # operations of one step
    "moved",  # bytes that they read and write, of a forecast
    "flop",  # floating-point operations, of a forecast
]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""Metrics in which a candidate is compared with its baseline."""
