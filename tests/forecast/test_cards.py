from __future__ import annotations

from pathlib import Path

import pytest

from vnbench.errors import InputError
from vnbench.forecast.cards import CARDS, CONTEXT_BYTES, Card, is_called, parse_card, read_cards

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RTX 4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("rtx-4090", "RTX 4090"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("3090 24GB", "RTX 3090"),
        ("a100-80", "A100 80GB"),
        ("a100_40gb", "A100 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"),
        ("h100", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("H100 pcie", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("H200 141GB", "H200"),
        ("l4", "L4"),
        ("L40S", "L40S"),
        ("a10", "A10"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100 16GB"),
    ],
)
def test_a_card_is_known_by_what_people_and_programs_call_it(text: str, name: str) -> None:
    assert parse_card(text, "--card").name == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("l40", "write L40S"),
        ("RTX 3080", "or describe yours for vnbench forecast --cards FILE.toml"),
        ("rtx4070", "or describe yours for vnbench forecast --cards FILE.toml"),
        ("RTX 4090 S", "write 'RTX 4090'"),
        ("4090 Ti", "known cards are"),
        ("RTX 4090 Laptop GPU", "known cards are"),
        ("A100 64GB", "known cards are"),
        ("L4 48GB", "known cards are"),
        ("H100 NVL", "write 'H100 SXM'"),
        ("L4,H200", "known cards are"),
        ("", "a size such as 24GiB"),
        ("a100", "several cards match: A100 40GB, A100 80GB; write 'A100 80GB'"),
        ("v100", "several cards match: V100 16GB, V100 32GB"),
        ("24GB", "write 24GiB"),
        ("800MiB", "a process takes up to 800 MiB for itself"),
    ],
)
def test_a_card_that_is_unknown_or_several_is_refused_with_the_nearest(text: str, told: str) -> None:
    with pytest.raises(InputError, match=r"^--card ") as caught:
        parse_card(text, "--card")
    assert told in str(caught.value)


def test_a_size_is_a_card_of_which_the_context_is_taken_away() -> None:
    card = parse_card("24GiB", "--card")
    assert (card.name, card.total_bytes) == ("24GiB", 24 * GIB)
    assert card.usable_bytes == (24 * GIB - CONTEXT_BYTES[1], 24 * GIB - CONTEXT_BYTES[0])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("24.0GiB", "24GiB"),
        (" 24 GiB", "24GiB"),
        ("24576MiB", "24GiB"),
        ("23.70GiB", "23.7GiB"),
        ("1.5TiB", "1.5TiB"),
        ("1700MiB", "1700MiB"),
        ("1073741825B", "1073741825B"),
    ],
)
def test_a_size_is_one_card_however_it_is_written(text: str, name: str) -> None:
    card = parse_card(text, "--card")
    assert card.name == name
    assert parse_card(card.name, "--card") == card


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_figure_of_a_card_is_plausible_and_has_a_source(card: Card) -> None:
    assert card.bandwidth is not None
    assert card.rates is not None
    assert card.sources is not None
    assert {"memory", "bandwidth", "rates", "context"} == set(card.sources)
    assert all("https://" in source for source in card.sources.values())
    assert 1e11 < card.bandwidth < 1e13
    assert 14 * GIB < card.total_bytes < 200 * GIB
    assert card.rates["fp32"] <= card.rates.get("tf32", card.rates["fp32"]) <= card.rates["fp16"]
    assert card.rates.get("bf16", card.rates["fp16"]) == card.rates["fp16"]  # dense: never twice the one of the other
    assert card.multiprocessors is not None
    # Of one multiprocessor, at clocks between 1 and 3 GHz: 64 or 128 cores, two operations each.
    assert 0.128e12 <= card.rates["fp32"] / card.multiprocessors < 0.768e12


def test_a_card_without_bf16_in_hardware_has_no_rate_of_it() -> None:
    for card in CARDS:
        assert card.rates is not None
        assert card.compute_capability is not None
        assert ("bf16" in card.rates) == ("tf32" in card.rates) == (card.compute_capability >= (8, 0))


def test_no_two_cards_have_one_name() -> None:
    assert len({card.name for card in CARDS}) == len(CARDS)
    for card in CARDS:
        assert parse_card(card.name, "--card") is card


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cards.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_card_of_ones_own_comes_before_those_that_are_known(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [[card]]
        name = "RTX 4090"
        memory = "20GiB"
        context = ["100MiB", "200MiB"]
        bandwidth = 900
        rates = {fp32 = 40, bf16 = 80}
        multiprocessors = 100
        compute_capability = 8.9

        [[card]]
        name = "My MI300X"
        memory = "192GiB"
        """,
    )
    cards = read_cards(path, "--cards")
    own = parse_card("4090", "--card", cards=cards)
    assert own == Card(
        name="RTX 4090",
        total_bytes=20 * GIB,
        context_bytes=(100 * MIB, 200 * MIB),
        bandwidth=900e9,
        rates={"fp32": 40e12, "bf16": 80e12},
        multiprocessors=100,
        compute_capability=(8, 9),
        sources=dict.fromkeys(("memory", "bandwidth", "rates", "context"), str(path)),
    )
    assert parse_card("my mi300x", "--card", cards=cards).usable_bytes[1] == 192 * GIB - CONTEXT_BYTES[0]
    assert parse_card("h200", "--card", cards=cards).name == "H200"


CARD = '[[card]]\nname = "x1"\nmemory = "24GiB"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file: needs [[card]] tables"),
        ("card = 3", "the file: needs [[card]] tables"),
        ("card = [1]", "card 1: must be a table"),
        (CARD + "[more]\n", "the file: needs [[card]] tables"),
        ("[[card", "this is not TOML"),
        ('[[card]]\nmemory = "24GiB"', "card 1: name: is needed"),
        ('[[card]]\nname = "x1"', "x1: memory: is needed"),
        ('[[card]]\nname = "x1"\nmemory = 24', "x1: memory: is needed, and is a text such as 24GiB"),
        ('[[card]]\nname = "x1"\nmemory = "24GB"', "x1: memory 24GB: a size is"),
        (CARD + "bandwith = 3", "card 1: bandwith: there is no such field"),
        (CARD + 'bandwidth = "3"', "x1: bandwidth: must be a number above 0"),
        (CARD + "bandwidth = inf", "x1: bandwidth: must be a number above 0"),
        (CARD + "rates = {fp8 = 3}", "x1: rates: is a table by fp32"),
        (CARD + "rates = {bf16 = 3}", "x1: rates: needs fp32"),
        (CARD + "rates = {fp32 = -3}", "x1: rates.fp32: must be a number above 0"),
        (CARD + "multiprocessors = true", "x1: multiprocessors: must be a number above 0"),
        (CARD + "compute_capability = 890", "x1: compute_capability: must be a number such as 8.9"),
        (CARD + 'context = ["1GiB"]', "x1: context: is one size, or a low and a high one"),
        (CARD + 'context = "24GiB"', "x1: a process takes up to 24.0 GiB for itself"),
        (CARD + CARD, "name: two cards are called x1"),
    ],
)
def test_a_file_of_cards_is_refused_with_the_field(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=r"^--cards ") as caught:
        read_cards(written(tmp_path, text), "--cards")
    assert told in str(caught.value)


def test_a_file_of_cards_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_cards(tmp_path / "none.toml", "--cards")


@pytest.mark.parametrize(
    ("device", "card", "told"),
    [
        ("NVIDIA H200", "H200", True),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB", True),
        ("NVIDIA A100-SXM4-80GB", "A100 40GB", False),
        ("NVIDIA L4", "L40S", False),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada Generation", True),
        ("NVIDIA L4", "24GiB", False),
        ("AMD EPYC", "H200", False),
        ("", "H200", False),
        ("", "", False),
    ],
)
def test_a_device_is_of_a_card_by_what_its_driver_calls_it(device: str, card: str, told: bool) -> None:
    assert is_called(device, card) is told
