"""How PyTorch's caching allocator is set: what ``PYTORCH_ALLOC_CONF`` says, understood as torch understands it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vnbench.errors import InputError
from vnbench.meant import DIGITS, closest

MIB = 2**20

MIN_BLOCK_BYTES = 512
"""Every block is a multiple of it (kMinBlockSize)."""

DEFAULT_LARGE_SEGMENT_BYTES = 20 * MIB
"""What torch starts with (large_segment_size_)."""

NUM_ROUNDUP_INTERVALS = 16
"""Powers of two from 1 MiB on that have divisions of their own; the last one holds for all above."""

NATIVE, EXPANDABLE = "native", "expandable-segments"


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocatorSettings:
    """Settings of the allocator that change what it takes; those of pinned memory and of locks do not."""

    expandable_segments: bool = False
    """Whether segments grow by pages of virtual memory instead of being taken whole."""
    large_segment_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    """Segment taken for a block of 1 to 10 MiB; page of an expandable segment of large blocks."""
    max_split_bytes: int | None = None
    """Blocks of this size and above are not split, and serve no smaller request; None: all are split."""
    max_non_split_rounding_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    """A request at or above ``max_split_bytes`` takes a cached block that is larger by less than this."""
    roundup_power2_divisions: tuple[int, ...] = (0,) * NUM_ROUNDUP_INTERVALS
    """Steps between powers of two that sizes are rounded up to, by power of two from 1 MiB on; 0 and 1: none."""
    garbage_collection_threshold: float = 0.0
    """Share of the limit above which old cached segments are given back; 0: never. It needs a limit."""
    per_process_memory_fraction: float = 1.0
    """Share of the card's memory that the process may take; 1: no limit but the card's."""

    @property
    def is_limited(self) -> bool:
        """Whether the process may take less than the card has."""
        return self.per_process_memory_fraction < 1

    def limit_bytes(self, total_bytes: int) -> int | None:
        """Return what the process may take of a card's memory; None for all of it."""
        return int(self.per_process_memory_fraction * total_bytes) if self.is_limited else None

    def rounded(self, requested: int) -> int:
        """Return the bytes of the block that a request of at least one byte takes."""
        if requested < MIN_BLOCK_BYTES:
            return MIN_BLOCK_BYTES
        power = requested.bit_length() - 1
        interval = min(max(power - MIB.bit_length() + 1, 0), NUM_ROUNDUP_INTERVALS - 1)
        divisions = self.roundup_power2_divisions[interval]
        if divisions > 1 and requested > MIN_BLOCK_BYTES * divisions:
            step = (1 << power) // divisions
            return -(-requested // step) * step
        return -(-requested // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES


NAMED: Mapping[str, AllocatorSettings] = {
    NATIVE: AllocatorSettings(),
    EXPANDABLE: AllocatorSettings(expandable_segments=True),
}
"""Settings that have a name."""

WITHOUT_EFFECT = (
    "pinned_use_background_threads",
    "pinned_use_cuda_host_register",
    "pinned_num_register_threads",
    "pinned_reserve_segment_size_mb",
    "pinned_free_catch_all",
    "pinned_max_round_threshold_mb",
    "pinned_max_cached_size_mb",
    "release_lock_on_cudamalloc",
    "graph_capture_record_stream_reuse",
    "throw_on_cudamalloc_oom",
)
"""Keys of torch that do not change how many bytes of the card are taken."""


def parse_allocators(text: str, where: str) -> tuple[tuple[str, AllocatorSettings], ...]:
    """Return the settings that a comma list names, each with what it is called.

    An entry is ``native``, ``expandable-segments``, or a text of ``PYTORCH_ALLOC_CONF``, whose ``key:value`` parts
    that follow each other are one entry; a semicolon ends one.

    Raises:
        InputError: a name or a key that there is not, or a value that torch refuses.
    """
    chosen: dict[str, AllocatorSettings] = {}
    conf: list[str] = []
    for part in [part for entry in text.split(";") for part in (*_parts(entry), None)]:
        if part is not None and ":" in part:
            conf.append(part)
            continue
        if conf:
            chosen[",".join(conf)] = parse_conf(",".join(conf), where)
            conf = []
        if part is not None:
            name = part.casefold().replace("_", "-")
            if name not in NAMED:
                _refuse(where, part, f"must be one of {', '.join(NAMED)}, or KEY:VALUE as in PYTORCH_ALLOC_CONF", name)
            chosen[name] = NAMED[name]
    return tuple(chosen.items())


def settings_called(text: str) -> AllocatorSettings:
    """Return the settings that a name of NAMED or a text of ``PYTORCH_ALLOC_CONF`` stands for.

    Raises:
        InputError: as ``parse_conf``.
    """
    return NAMED[text] if text in NAMED else parse_conf(text, "allocator")


def different_allocators(text: str, where: str) -> tuple[str, ...]:
    """Return what different settings in a comma list are called: by their name if they have one.

    Raises:
        InputError: as ``parse_allocators``.
    """
    names = {settings: name for name, settings in NAMED.items()}
    found: dict[AllocatorSettings, str] = {}
    for called, settings in parse_allocators(text, where):
        found.setdefault(settings, names.get(settings, called))
    return tuple(found.values())


def idle_garbage_collection(called: Mapping[str, AllocatorSettings]) -> Iterator[str]:
    """Yield a note on each setting, by what it is called, whose threshold of garbage collection does nothing."""
    for name, settings in called.items():
        if settings.garbage_collection_threshold and not settings.is_limited:
            yield f"{name}: torch collects garbage only below a limit; add per_process_memory_fraction"


def parse_conf(text: str, where: str) -> AllocatorSettings:
    """Return the settings that a text of ``PYTORCH_ALLOC_CONF`` says.

    Raises:
        InputError: a key that torch does not know, or a value that it refuses.
    """
    texts: dict[str, str] = {}
    for part in _parts(text):
        key, _, value = part.partition(":")
        if key not in PARSERS and key not in WITHOUT_EFFECT:
            _refuse(where, part, f"there is no setting {key!r}, but {', '.join(PARSERS)}", key)
        texts[key] = value
    settings = AllocatorSettings()
    for key, parse in PARSERS.items():  # in an order in which the size of a segment is known to those that ask for it
        if key in texts:
            settings = replace(settings, **parse(texts[key], f"{where} {key}:", settings))
    return settings


def _parts(text: str) -> list[str]:
    """Return the parts between commas that stand in no brackets, without spaces."""
    parts = [part for part in re.split(r",(?![^\[]*\])", re.sub(r"\s", "", text)) if part]
    return parts or [""]


def _refuse(where: str, given: str, allowed: str, name: str = "") -> None:
    near = closest(name, [*NAMED, *(key.replace("_", "-") for key in PARSERS)])
    if near not in NAMED and near is not None:
        near = near.replace("-", "_") + ":VALUE"
    raise InputError(where, given or "''", allowed=allowed, remedy=f"write {near or EXPANDABLE}")


def _switch(text: str, where: str, _: AllocatorSettings) -> dict[str, Any]:
    if text not in ("True", "False"):
        raise InputError(where, text, allowed="must be True or False", remedy="write True")
    return {"expandable_segments": text == "True"}


def _mebibytes(text: str, where: str, *, at_least: int) -> int:
    if not re.fullmatch(DIGITS, text) or int(text) < at_least:
        raise InputError(
            where, text, allowed=f"must be a whole number of MiB, {at_least} or more", remedy=f"write {at_least}"
        )
    return int(text) * MIB


def _large_segment(text: str, where: str, _: AllocatorSettings) -> dict[str, Any]:
    size = _mebibytes(text, where, at_least=11)
    return {"large_segment_bytes": size, "max_non_split_rounding_bytes": size}


def _max_split(text: str, where: str, settings: AllocatorSettings) -> dict[str, Any]:
    return {"max_split_bytes": _mebibytes(text, where, at_least=settings.large_segment_bytes // MIB)}


def _max_rounding(text: str, where: str, settings: AllocatorSettings) -> dict[str, Any]:
    return {"max_non_split_rounding_bytes": _mebibytes(text, where, at_least=settings.large_segment_bytes // MIB)}


def _share(field: str, *, is_one_allowed: bool) -> Callable[[str, str, AllocatorSettings], dict[str, Any]]:
    def parse(text: str, where: str, _: AllocatorSettings) -> dict[str, Any]:
        value = float(text) if re.fullmatch(rf"{DIGITS}?(?:\.{DIGITS})?", text) and text else -1.0
        if not (0 < value < 1 or (is_one_allowed and value == 1)):
            raise InputError(where, text, allowed="must be a share between 0 and 1", remedy="write 0.8")
        return {field: value}

    return parse


def _divisions(text: str, where: str, _: AllocatorSettings) -> dict[str, Any]:
    """Return one number for all sizes, or ``[256:1,512:2,1024:4,>:8]``: by size in MiB, where > is all above."""
    if not text.startswith("["):
        return {"roundup_power2_divisions": (_power(text, where),) * NUM_ROUNDUP_INTERVALS}
    divisions = [0] * NUM_ROUNDUP_INTERVALS
    last: int | None = None
    for part in text.strip("[]").split(","):
        bound, _colon, value = part.partition(":")
        number = 0 if value == "0" else _power(value, where)
        if bound == ">":
            start = 1 if last is None else last + 1
            divisions[start:] = [number] * (NUM_ROUNDUP_INTERVALS - start)
            continue
        index = min(_power(bound, where).bit_length() - 1, NUM_ROUNDUP_INTERVALS - 1)
        if last is None:  # the first holds for all below it too
            divisions[:index] = [number] * index
        divisions[index] = number
        last = index
    return {"roundup_power2_divisions": tuple(divisions)}


def _power(text: str, where: str) -> int:
    value = int(text) if re.fullmatch(DIGITS, text) else 0
    if not value or value & (value - 1):
        raise InputError(
            where, text, allowed="must be a power of two, or a list [MIB:POWER,...,>:POWER]", remedy="write 8"
        )
    return value


def _backend(text: str, where: str, _: AllocatorSettings) -> dict[str, Any]:
    if text != NATIVE:
        raise InputError(where, text, allowed="only torch's own allocator is known here", remedy=f"write {NATIVE}")
    return {}


PARSERS: Mapping[str, Callable[[str, str, AllocatorSettings], dict[str, Any]]] = {
    "expandable_segments": _switch,
    "large_segment_size_mb": _large_segment,
    "max_split_size_mb": _max_split,
    "max_non_split_rounding_mb": _max_rounding,
    "roundup_power2_divisions": _divisions,
    "garbage_collection_threshold": _share("garbage_collection_threshold", is_one_allowed=False),
    "per_process_memory_fraction": _share("per_process_memory_fraction", is_one_allowed=True),
    "backend": _backend,
}
"""Keys that change what is taken, in an order in which each knows what it asks for: ``(value, where, settings so far)
-> fields``."""
