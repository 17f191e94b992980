"""Which precisions a device computes natively, as far as its kind tells it."""

from __future__ import annotations

from collections.abc import Collection

from vnbench.records.machine_keys import Environment
from vnbench.records.spec.words import PRECISIONS, REDUCED_PRECISIONS, Precision

FP16_CAPABILITIES_BEFORE_7 = frozenset({(5, 3), (6, 0), (6, 2)})
"""Compute capabilities under 7.0 that compute fp16 at least as fast as fp32."""


def native_precisions_of_capability(major: int, minor: int) -> tuple[Precision, ...]:
    """Return the precisions that an NVIDIA GPU of this compute capability has units for, in the order of PRECISIONS.

    The others run as well, by converting to fp32 and back. NVIDIA's CUDA C++ Programming Guide, "Compute Capabilities":
    tf32 and bf16 from 8.0. Its table "Throughput of Native Arithmetic Instructions" (CUDA 12.6) has 16-bit
    multiply-adds from 7.0 and on 5.3, 6.0 (P100) and 6.2; 6.1 (GTX 10, P4, P40) has 2 a clock and multiprocessor,
    where it does 128 in fp32, which is as good as none.
    """
    found: set[Precision] = {"fp32"}
    if (major, minor) >= (7, 0) or (major, minor) in FP16_CAPABILITIES_BEFORE_7:
        found.add("fp16")
    if major >= 8:
        found |= {"tf32", "bf16"}
    return in_order(found)


def in_order(precisions: Collection[Precision]) -> tuple[Precision, ...]:
    """Return some precisions in the order of PRECISIONS."""
    return tuple(precision for precision in PRECISIONS if precision in precisions)


def emulated_precisions(environment: Environment) -> tuple[Precision, ...]:
    """Return the precisions of 16 bits that a device only emulates, in the order of PRECISIONS.

    Such a precision runs, and is far slower than fp32. None of them where ``environment`` is of a vnbench that did not
    look them up. TF32 is never emulated: where it has no units it is fp32.
    """
    native = environment.get("native_precisions")
    return () if native is None else in_order([name for name in REDUCED_PRECISIONS if name not in native])
