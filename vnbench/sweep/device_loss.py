"""Detection of a lost GPU after a failed trial: without it, no further trial can be measured."""

from __future__ import annotations

from vnbench.errors import VnbenchError
from vnbench.measure.gpu_state import is_lost
from vnbench.records.machine_keys import Environment
from vnbench.records.record import TrialRecord
from vnbench.sweep.runner import probe_environment

LOSS_TEXTS = (
    "gpu is lost",
    "fallen off the bus",
    "no cuda-capable device is detected",
    "no cuda gpus are available",
    "found no nvidia driver",
    "cuda driver initialization failed",
    "cuda unknown error",
    "cuda error: unknown error",
    "busy or unavailable",
)
"""Messages of torch, CUDA and NVML for an unreachable device, in lower case. An illegal access or a failed launch is
not among them: it ends one process, and the next process finds the device."""


def may_have_lost_device(record: TrialRecord) -> bool:
    """Return whether a record hints that its GPU is gone, which ``is_device_there`` has to confirm."""
    if record.spec.device != "cuda" or record.status not in ("crashed", "timeout"):
        return False
    telemetry = record.telemetry or {}
    told = [*((telemetry.get("device") or {}).get("notes") or ())]
    if record.cause is not None:
        told += [record.cause.message, record.cause.detail or ""]
    return any(text in line.lower() for line in told for text in LOSS_TEXTS)


def is_device_there(environment: Environment) -> bool:
    """Return whether NVML and a fresh process still find the GPU that an environment describes."""
    uuid = environment.get("device_uuid")
    if uuid and is_lost(uuid):
        return False
    try:
        found = probe_environment("cuda")
    except VnbenchError:
        return False
    # When one of several GPUs is lost, another one takes its number.
    return bool(found.get("device_uuid") == uuid)
