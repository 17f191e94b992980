"""The precisions, each declared once: everything that is known of one, and that rooms with and without torch go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vnbench.records.spec.words import DeviceType, Precision


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """How convolutions and matrix products are computed under a precision, and where."""

    autocast: Literal["bfloat16", "float16"] | None = None
    """What torch calls the type that autocast converts their inputs to; None without autocast, for fp32."""
    scales_loss: bool = False
    """Whether small gradients would become 0 in it, so that the loss is scaled up."""
    fp32_products: Literal["ieee", "tf32"] = "ieee"
    """What ``fp32_precision`` of torch's libraries is set to: the arithmetic of products whose inputs are in fp32."""
    significant_bits: int
    """Bits that the check of a step rounds weights and images to, to see what rounding alone does."""
    tolerance: float = 3.0
    """Times the error from that rounding by which a step may be off: vnbench.trial.checks.equality says why."""
    capability: tuple[int, int] = (0, 0)
    """Compute capability from which on NVIDIA GPUs have units for it."""
    earlier_capabilities: frozenset[tuple[int, int]] = frozenset()
    """Those before it that have units for it too."""
    onednn_question: str | None = None
    """Function of ``torch.ops.mkldnn`` that says whether a CPU has instructions for it; None where all have."""
    is_cuda_only: bool = False
    """Whether no CPU computes it."""
    swept_on: frozenset[DeviceType]
    """Devices on which a sweep measures it unless asked for others."""

    @property
    def is_reduced(self) -> bool:
        """Whether it runs under autocast: only then can the norm's precision differ from its input's.

        Without units for it a device emulates such a precision, which is far slower than fp32; another one is computed
        as fp32 there.
        """
        return self.autocast is not None

    @property
    def preference(self) -> tuple[bool, bool, bool]:
        """Sorts precisions that are equally fast: reduced ones first, of these one that needs no scaling of the loss.

        Full fp32 comes last.
        """
        return not self.is_reduced, self.scales_loss, self.fp32_products == "ieee"

    def has_units(self, capability: tuple[int, int]) -> bool:
        """Return whether an NVIDIA GPU of this compute capability has units for it.

        The others run as well, by converting to fp32 and back. NVIDIA's CUDA C++ Programming Guide, "Compute
        Capabilities": tf32 and bf16 from 8.0. Its table "Throughput of Native Arithmetic Instructions" (CUDA 12.6) has
        16-bit multiply-adds from 7.0 and on 5.3, 6.0 (P100) and 6.2; 6.1 (GTX 10, P4, P40) has 2 a clock and
        multiprocessor, where it does 128 in fp32, which is as good as none.
        """
        return capability >= self.capability or capability in self.earlier_capabilities


PRECISIONS: Mapping[Precision, Arithmetic] = {
    # Rounded to the bits of TF32, which must not pass for it.
    "fp32": Arithmetic(significant_bits=11, tolerance=0.5, swept_on=frozenset({"cuda", "cpu"})),
    "tf32": Arithmetic(
        fp32_products="tf32",
        significant_bits=11,
        capability=(8, 0),
        is_cuda_only=True,
        swept_on=frozenset({"cuda"}),
    ),
    "bf16": Arithmetic(
        autocast="bfloat16",
        significant_bits=8,
        capability=(8, 0),
        onednn_question="_is_mkldnn_bf16_supported",
        swept_on=frozenset({"cuda", "cpu"}),
    ),
    "fp16": Arithmetic(
        autocast="float16",
        scales_loss=True,
        significant_bits=11,
        capability=(7, 0),
        earlier_capabilities=frozenset({(5, 3), (6, 0), (6, 2)}),
        onednn_question="_is_mkldnn_fp16_supported",
        swept_on=frozenset({"cuda"}),
    ),
}
"""Every precision, in the order in which people read them."""

REDUCED_PRECISIONS: tuple[Precision, ...] = tuple(name for name, one in PRECISIONS.items() if one.is_reduced)


def preferred_first(precisions: Iterable[Precision]) -> tuple[Precision, ...]:
    """Return some precisions in their order, behind the one to be preferred."""
    names = tuple(precisions)
    first = min(names, key=lambda name: PRECISIONS[name].preference)
    return (first, *(name for name in names if name != first))


def swept_precisions(device: DeviceType) -> tuple[Precision, ...]:
    """Return what a sweep on a device measures unless asked for others, the one to be preferred first."""
    return preferred_first(name for name, one in PRECISIONS.items() if device in one.swept_on)
