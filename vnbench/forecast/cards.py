"""Cards: what torch sees of their memory, how fast they move bytes and compute, and where each figure comes from.

Rates are dense, with sums in fp32, as tensor cores are used in training: datasheets print twice as much "with
sparsity", and GeForce cards compute at half of their printed rate where sums are kept in fp32.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vnbench.errors import InputError, readable
from vnbench.meant import closest
from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision
from vnbench.texts import check_regular, decoded
from vnbench.units import BYTES_PER_UNIT, format_bytes, parse_bytes

MIB, GIB = 2**20, 2**30

RATED: tuple[Precision, ...] = ("fp32", "tf32", "bf16", "fp16")
"""Precisions in the order of a card's rates. For one without a rate a card has no units, and computes in fp32."""

CONTEXT_BYTES = (300 * MIB, 800 * MIB)
"""Low and high end of what a process takes before its first tensor, and for the kernels that it loads.

About 300 to 400 MB are told of torch with lazy loading (pytorch/pytorch#107667 and #109888), 256 MiB of an RTX 3090
(invoke-ai/InvokeAI#9413). No source settles the high end, which has to hold the kernels of a training step as well.
"""

MAX_PLACES = 7
"""Decimal places below which the size is that stands for a card's name."""

CONTEXT_SOURCE = "https://github.com/pytorch/pytorch/issues/107667, https://github.com/pytorch/pytorch/issues/109888"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A graphics card, or a size of memory alone."""

    name: str
    """As people write it."""
    total_bytes: int
    """What torch reports as its total memory, the smallest figure that was seen."""
    context_bytes: tuple[int, int] = CONTEXT_BYTES
    """Low and high end of what the allocator never gets."""
    bandwidth: float | None = None
    """Bytes per second between the chip and its memory; None for a size alone."""
    rates: Mapping[str, float] | None = None
    """Floating-point operations per second by precision, for those that its tensor cores or cores compute natively."""
    multiprocessors: int | None = None
    """Streaming multiprocessors."""
    compute_capability: tuple[int, int] | None = None
    """Of CUDA: (9, 0) is Hopper."""
    sources: Mapping[str, str] | None = None
    """Where ``memory``, ``bandwidth`` and ``rates`` (with multiprocessors) were read, or by what rule."""

    @property
    def usable_bytes(self) -> tuple[int, int]:
        """What the allocator can take: with the largest context, and with the smallest."""
        low, high = self.context_bytes
        return self.total_bytes - high, self.total_bytes - low


_ENGINEERING = "https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md"
_H100 = "https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html"
_A100 = "https://glennklockwood.com/garden/processors/A100"
_V100 = "https://huggingface.co/RajBhope/gpu-runtime-predictor/blob/main/gpu_catalog.json"
_AS_A10 = (
    "rule: nvidia-smi's total (https://github.com/modal-labs/modal-client/pull/2797) less 510 MiB, as of the A10; "
    "450 to 770 MiB of the other cards"
)


def _card(
    name: str,
    *,
    memory: tuple[float, str],
    bandwidth: tuple[float, str],
    rates: tuple[tuple[float, ...], str],
    chip: tuple[int, int, int],
) -> Card:
    """Return a card; memory in GiB, bandwidth in GB/s, rates in TFLOP/s by RATED, 0 where there is none."""
    values, rates_source = rates
    return Card(
        name=name,
        total_bytes=int(memory[0] * 1024) * MIB,
        bandwidth=bandwidth[0] * 1e9,
        rates={precision: value * 1e12 for precision, value in zip(RATED, values, strict=True) if value},
        multiprocessors=chip[0],
        compute_capability=chip[1:],
        sources={"memory": memory[1], "bandwidth": bandwidth[1], "rates": rates_source, "context": CONTEXT_SOURCE},
    )


CARDS: tuple[Card, ...] = (
    _card(
        "H200",
        memory=(
            139.80,
            "https://github.com/ai-bot-pro/achatbot/blob/main/deploy/modal/src/llm/vllm/vlm/skywork_r1v.py "
            "(143,156 MiB)",
        ),
        bandwidth=(4800, "https://itkb.uw.cz/2026/06/nvidia-h200-vs-b300-precisions-cores.html"),
        rates=((67, 494.5, 989, 989), _ENGINEERING),
        chip=(132, 9, 0),
    ),
    _card(
        "H100 SXM",
        memory=(79.11, "https://github.com/vllm-project/vllm/issues/27508"),
        bandwidth=(3350, _H100),
        rates=((67, 494.5, 989, 989), _ENGINEERING),
        chip=(132, 9, 0),
    ),
    _card(
        "H100 PCIe",
        memory=(79.11, "https://github.com/vllm-project/vllm/issues/27508"),
        bandwidth=(2000, _H100),
        rates=((51, 378, 756, 756), _ENGINEERING),
        chip=(114, 9, 0),
    ),
    _card(
        "A100 40GB",
        memory=(
            39.49,
            "https://upb-pc2.atlassian.net/wiki/spaces/PC2DOK/pages/1900609/NVIDIA+A100+40GB+with+NVLINK "
            "(42,405,855,232 bytes)",
        ),
        bandwidth=(1555, _A100),
        rates=((19.5, 156, 312, 312), _A100),
        chip=(108, 8, 0),
    ),
    _card(
        "A100 80GB",
        memory=(79.25, "https://github.com/HiDream-ai/VAREdit/issues/6"),
        bandwidth=(2039, f"{_A100} (SXM; PCIe: 1,935)"),
        rates=((19.5, 156, 312, 312), _A100),
        chip=(108, 8, 0),
    ),
    _card(
        "L40S",
        memory=(44.49, _AS_A10),
        bandwidth=(864, "https://www.mullet.se/product.html?product_id=355414"),
        rates=((91.6, 183, 362, 362), _ENGINEERING),
        chip=(142, 8, 9),
    ),
    _card(
        "L4",
        memory=(21.99, _AS_A10),
        bandwidth=(300, "https://grokipedia.com/page/NVIDIA_L4_vs_L40S"),
        rates=(
            (30.3, 60, 121, 121),
            "https://grokipedia.com/page/NVIDIA_L4_vs_L40S (242 with sparsity), https://store.sourcecode.com/en-us/"
            "bg-bucket-compare/125/9820 (TF32: 120 with sparsity), "
            "https://fpsbench.com/compare/gpu/nvidia-l4-vs-nvidia-tesla-m40 (7,424 cores: 58 multiprocessors)",
        ),
        chip=(58, 8, 9),
    ),
    _card(
        "A10",
        memory=(21.99, "https://github.com/zai-org/CogVLM/issues/236"),
        bandwidth=(600, "https://www.baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference/"),
        rates=(
            (31.2, 62.5, 125, 125),
            "https://gist.github.com/kimbochen (fp16), https://sysrqmts.com/ru/gpus/compare/"
            "nvidia-a10-pcie-vs-nvidia-quadro-rtx-4000 (fp32, multiprocessors); rule: tf32 is half of fp16",
        ),
        chip=(72, 8, 6),
    ),
    _card(
        "T4",
        memory=(14.56, "https://github.com/Zheng-Chong/CatVTON/issues/133"),
        bandwidth=(320, "https://sysrqmts.com/en/gpus/nvidia/tesla/t4"),
        rates=((8.1, 0, 0, 65), "https://sysrqmts.com/en/gpus/nvidia/tesla/t4"),
        chip=(40, 7, 5),
    ),
    _card(
        "V100 16GB",
        memory=(15.78, "https://github.com/kchengiva/Shift-GCN/issues/34"),
        bandwidth=(900, _V100),
        rates=((15.7, 0, 0, 125), f"{_V100}, https://developer.nvidia.com/programming-tensor-cores-cuda-9-0"),
        chip=(80, 7, 0),
    ),
    _card(
        "V100 32GB",
        memory=(31.74, "https://github.com/liucongg/ChatGLM-Finetuning/issues/73"),
        bandwidth=(900, _V100),
        rates=((15.7, 0, 0, 125), f"{_V100}, https://developer.nvidia.com/programming-tensor-cores-cuda-9-0"),
        chip=(80, 7, 0),
    ),
    _card(
        "RTX 3090",
        memory=(23.70, "https://github.com/GaoLii/DSP/issues/10"),
        bandwidth=(936, "https://holynerdvana.blogspot.com/2022/10/nvidia-geforce-rtx-3090-specifications.html"),
        rates=(
            (35.6, 35.6, 71, 71),
            "https://holynerdvana.blogspot.com/2022/10/nvidia-geforce-rtx-3090-specifications.html (142 with sums in "
            "fp16); rule of https://gist.github.com/getianao/33fb5306ba896193c7ae59ec64794283: half with sums in "
            "fp32, a quarter in tf32",
        ),
        chip=(82, 8, 6),
    ),
    _card(
        "RTX 4090",
        memory=(23.52, "https://github.com/Soul-AILab/SoulX-FlashTalk/issues/5"),
        bandwidth=(1008, "https://waredb.com/processor/nvidia-geforce-rtx-4090"),
        rates=(
            (82.6, 82.6, 165.2, 165.2),
            "https://hmc-tech.com/gpus/nvidia-geforce-rtx-4090-vs-nvidia-rtx-pro-5000-blackwell",
        ),
        chip=(128, 8, 9),
    ),
    _card(
        "RTX 5090",
        memory=(31.36, "https://github.com/TrajectoryCrafter/TrajectoryCrafter/issues/20"),
        bandwidth=(1792, "https://www.spheron.network/blog/nvidia-rtx-5090-specs/"),
        rates=(
            (104.8, 104.8, 209.6, 209.6),
            "https://www.spheron.network/blog/nvidia-rtx-5090-specs/ (838.4 with sparsity and sums in fp16), "
            "https://pcpartcomparison.com/gpu/geforce-rtx-5090 (fp32); rule: a quarter of that, and tf32 as fp32, as "
            "of the RTX 4090",
        ),
        chip=(170, 12, 0),
    ),
)
"""Cards that are known; a user's own come beside them."""


def parse_card(text: str, where: str, *, cards: Sequence[Card] = CARDS) -> Card:
    """Return the card that a name means, or a size such as ``24GiB``.

    Names are taken as people and programs write them: ``RTX 4090``, ``rtx-4090``, ``4090``, ``a100-80``,
    ``NVIDIA A100-SXM4-80GB``.

    Raises:
        InputError: there is no such card, several are meant, or a size is below what a process takes for itself.
    """
    if re.fullmatch(r"\s*[\d.]+\s*[kmgt]?i?b\s*", text, re.IGNORECASE):
        size = parse_bytes(text, where)
        return _check_context(Card(name=_size_written(size), total_bytes=size), where)
    meant = () if "," in text else _words(text)
    found = [card for card in cards if _is_meant(meant, card)]
    if not found or len({card.total_bytes for card in found}) > 1:
        names = [card.name for card in found or cards]
        near = found[-1].name if found else closest(text, names)
        # Another number is another card, and no misspelt one.
        is_meant = near is not None and (bool(found) or re.findall(r"\d+", near) == re.findall(r"\d+", text))
        raise InputError(
            where,
            text.strip() or "''",
            allowed=f"{'several cards match' if found else 'known cards are'}: {', '.join(names)}",
            remedy=f"write {shlex.quote(near)}"
            if near is not None and is_meant
            else "write one of these, a size such as 24GiB, or describe yours for vnbench forecast --cards FILE.toml",
        )
    return found[0]


def is_called(device_name: str, card: str) -> bool:
    """Return whether a device that a driver calls so is of the card of this name; a size alone is no device's name."""
    try:
        return parse_card(device_name, "").name == card
    except InputError:
        return bool(_words(card)) and _words(device_name) == _words(card)


def read_cards(path: Path, where: str) -> tuple[Card, ...]:
    """Return the cards that a user describes in a TOML file, before those that are known.

    Each is a table ``[[card]]`` with ``name`` and ``memory``, and optionally ``context``, ``bandwidth`` in GB/s, rates
    in TFLOP/s under ``rates``, ``multiprocessors`` and ``compute_capability``.

    Raises:
        InputError: it cannot be read, or holds something else; the field is named.
    """
    check_regular(path)
    with readable(where):
        content = path.read_bytes()
    try:
        document = tomllib.loads(decoded(content))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(where, path, allowed=f"this is not TOML ({error})", remedy="correct it") from error
    tables = document.get("card")
    if set(document) - {"card"} or not isinstance(tables, list) or not tables:
        _refuse(where, path, "the file", "needs [[card]] tables, and nothing else", 'write [[card]], name = "..."')
    own = tuple(_own_card(table, f"card {number}", path, where) for number, table in enumerate(tables, start=1))
    repeated = {card.name for number, card in enumerate(own) if card.name in {one.name for one in own[:number]}}
    if repeated:
        _refuse(where, path, "name", f"two cards are called {min(repeated)}", "give each a name of its own")
    return (*own, *(card for card in CARDS if _words(card.name) not in [_words(one.name) for one in own]))


FIELDS = ("name", "memory", "context", "bandwidth", "rates", "multiprocessors", "compute_capability")
"""What a card of a user's own may say."""


def _own_card(table: Any, place: str, path: Path, where: str) -> Card:
    if not isinstance(table, dict):
        _refuse(where, path, place, "must be a table", 'write [[card]], name = "..."')
    if unknown := sorted(set(table) - set(FIELDS)):
        near = closest(unknown[0], FIELDS) or "one of these"
        _refuse(
            where, path, f"{place}: {unknown[0]}", f"there is no such field, but {', '.join(FIELDS)}", f"write {near}"
        )
    name = table.get("name")
    if not isinstance(name, str) or not _words(name):
        _refuse(where, path, f"{place}: name", "is needed, and is a text", 'write name = "My card"')

    def size(field: str, value: Any) -> int:
        if not isinstance(value, str):
            _refuse(
                where, path, f"{name}: {field}", "is needed, and is a text such as 24GiB", f'write {field} = "24GiB"'
            )
        return parse_bytes(value, f"{where} {path}: {name}: {field}")

    def number(field: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            _refuse(where, path, f"{name}: {field}", "must be a number above 0", f"write {field} = 100")
        return float(value)

    context = table.get("context", CONTEXT_BYTES)
    if context is not CONTEXT_BYTES:
        ends = context if isinstance(context, list) else [context, context]
        if len(ends) != 2:
            _refuse(where, path, f"{name}: context", "is one size, or a low and a high one", 'write context = "500MiB"')
        context = tuple(sorted(size("context", end) for end in ends))
    rates = table.get("rates", {})
    if not isinstance(rates, dict) or set(rates) - set(PRECISIONS):
        _refuse(where, path, f"{name}: rates", f"is a table by {', '.join(PRECISIONS)}", "write rates.bf16 = 100")
    if rates and "fp32" not in rates:
        _refuse(where, path, f"{name}: rates", "needs fp32, in which parts of every step run", "write rates.fp32 = 50")
    capability = table.get("compute_capability")
    if capability is not None and not re.fullmatch(r"\d{1,2}\.\d", str(capability)):
        _refuse(where, path, f"{name}: compute_capability", "must be a number such as 8.9", "write 8.9")
    multiprocessors = table.get("multiprocessors")
    return _check_context(
        Card(
            name=name,
            total_bytes=size("memory", table.get("memory")),
            context_bytes=context,
            bandwidth=number("bandwidth", table["bandwidth"]) * 1e9 if "bandwidth" in table else None,
            rates={key: number(f"rates.{key}", value) * 1e12 for key, value in rates.items()} or None,
            multiprocessors=None if multiprocessors is None else int(number("multiprocessors", multiprocessors)),
            compute_capability=None if capability is None else _capability(str(capability)),
            sources=dict.fromkeys(("memory", "bandwidth", "rates", "context"), str(path)),
        ),
        where,
    )


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _check_context(card: Card, where: str) -> Card:
    if card.usable_bytes[0] <= 0:
        most = format_bytes(card.context_bytes[1])
        raise InputError(
            where,
            card.name,
            allowed=f"a process takes up to {most} for itself (its CUDA context), before its first tensor",
            remedy=f"write more than {most.replace(' ', '')}",
        )
    return card


def _size_written(num_bytes: int) -> str:
    """Return the shortest text that ``parse_bytes`` reads as a size: ``24GiB`` for ``24576 MiB``."""
    exact = [
        f"{text}{unit}"
        for unit, factor in BYTES_PER_UNIT.items()
        for text in (f"{num_bytes / factor:.{places}f}" for places in range(MAX_PLACES))
        if factor <= num_bytes and round(float(text) * factor) == num_bytes
    ]
    return min(exact, key=len)


def _words(name: str) -> tuple[str, ...]:
    """Return what tells a card from others in a name, without what people and programs add."""
    plain = re.sub(r"\b(nvidia|geforce|tesla|gpu|graphics|card)\b|\brtx", " ", name.casefold().replace("_", " "))
    words = re.findall(r"[a-z0-9]+", re.sub(r"\b(\d+)\s*gi?b?\b", r" \1 ", plain))
    return tuple(re.sub(r"^(sxm|pcie)\d$", r"\1", word) for word in words)


def _is_meant(meant: tuple[str, ...], card: Card) -> bool:
    """Return whether both are of one chip, and the one says no more than the other but its form and its memory."""
    name = _words(card.name)
    if meant == ("h100", "80", "hbm3"):  # as torch calls the SXM card
        meant = ("h100", "sxm")
    more = {word for word in set(meant) - set(name) if word not in _FORMS and not _is_memory(word, card)}
    return meant[:1] == name[:1] and not more and (set(meant) <= set(name) or set(name) <= set(meant))


_FORMS = ("sxm", "pcie", "hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x", "gddr7")
"""Words of a name that tell the form of a card or the kind of its memory."""


def _is_memory(word: str, card: Card) -> bool:
    """Return whether a word is about the memory of a card in GB, of which torch sees up to an eighth less."""
    return word.isdigit() and 7 / 8 < card.total_bytes / (int(word[:6]) * GIB or 1) <= 1


def _refuse(where: str, path: Path, place: str, allowed: str, remedy: str) -> NoReturn:
    raise InputError(where, f"{path}: {place}", allowed=allowed, remedy=remedy)
