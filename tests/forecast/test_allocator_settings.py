from __future__ import annotations

import pytest

from vnbench.errors import InputError
from vnbench.forecast.settings import AllocatorSettings, parse_allocators, parse_conf

KIB, MIB, GIB = 2**10, 2**20, 2**30


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("expandable_segments:True", AllocatorSettings(expandable_segments=True)),
        ("expandable_segments:False", AllocatorSettings()),
        ("max_split_size_mb:128", AllocatorSettings(max_split_bytes=128 * MIB)),
        ("garbage_collection_threshold:0.8", AllocatorSettings(garbage_collection_threshold=0.8)),
        ("per_process_memory_fraction:0.5", AllocatorSettings(per_process_memory_fraction=0.5)),
        ("per_process_memory_fraction:1.0", AllocatorSettings()),
        ("max_non_split_rounding_mb:32", AllocatorSettings(max_non_split_rounding_bytes=32 * MIB)),
        (
            "max_non_split_rounding_mb:64,large_segment_size_mb:40",
            AllocatorSettings(large_segment_bytes=40 * MIB, max_non_split_rounding_bytes=64 * MIB),
        ),
        (
            "large_segment_size_mb:12",
            AllocatorSettings(large_segment_bytes=12 * MIB, max_non_split_rounding_bytes=12 * MIB),
        ),
        ("roundup_power2_divisions:4", AllocatorSettings(roundup_power2_divisions=(4,) * 16)),
        (
            "roundup_power2_divisions:[256:1, 512:2, 1024:4, >:8]",
            AllocatorSettings(roundup_power2_divisions=(*(1,) * 9, 2, 4, *(8,) * 5)),
        ),
        ("backend:native,pinned_use_background_threads:True", AllocatorSettings()),
        (" expandable_segments : True , ", AllocatorSettings(expandable_segments=True)),
    ],
)
def test_a_text_of_torch_says_what_torch_makes_of_it(text: str, settings: AllocatorSettings) -> None:
    assert parse_conf(text, "--allocator") == settings


@pytest.mark.parametrize(
    ("text", "given", "remedy"),
    [
        ("expandable_segments:true", "true", "write True"),
        ("expandable-segment", "expandable-segment", "write expandable-segments"),
        ("natve", "natve", "write native"),
        ("", "''", "write expandable-segments"),
        ("max_split_size:128", "max_split_size:128", "write max_split_size_mb:VALUE"),
        ("max_split_size_mb:19", "19", "write 20"),
        ("large_segment_size_mb:40,max_split_size_mb:39", "39", "write 40"),
        ("large_segment_size_mb:10", "10", "write 11"),
        ("max_non_split_rounding_mb:1", "1", "write 20"),
        ("garbage_collection_threshold:1", "1", "write 0.8"),
        ("garbage_collection_threshold:nan", "nan", "write 0.8"),
        ("garbage_collection_threshold:", "", "write 0.8"),
        ("per_process_memory_fraction:1.5", "1.5", "write 0.8"),
        ("roundup_power2_divisions:3", "3", "write 8"),
        ("roundup_power2_divisions:[256:3]", "3", "write 8"),
        ("roundup_power2_divisions:[3:2]", "3", "write 8"),
        ("backend:cudaMallocAsync", "cudaMallocAsync", "write native"),
    ],
)
def test_what_torch_refuses_is_refused_with_what_to_write(text: str, given: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_allocators(text, "--allocator")
    assert caught.value.where.startswith("--allocator")
    assert (caught.value.given, caught.value.remedy) == (given, remedy)


def test_a_list_names_settings_and_pairs_that_follow_each_other_are_one_of_them() -> None:
    text = "native,expandable_segments:True,max_split_size_mb:64,Expandable_Segments"
    both = AllocatorSettings(expandable_segments=True, max_split_bytes=64 * MIB)
    assert parse_allocators(text, "--allocator") == (
        ("native", AllocatorSettings()),
        ("expandable_segments:True,max_split_size_mb:64", both),
        ("expandable-segments", AllocatorSettings(expandable_segments=True)),
    )


@pytest.mark.parametrize(
    ("divisions", "requested", "rounded"),
    [
        (0, 1200 * KIB, 1200 * KIB),
        (1, 1200 * KIB, 1200 * KIB),
        (4, 1200, 1536),  # not above 512 x 4: a multiple of 512
        (4, 2048, 2048),
        (4, 1200 * KIB, 1280 * KIB),
        (4, 1280 * KIB, 1280 * KIB),
        (4, 1280 * KIB + 1, 1536 * KIB),
        (2, GIB + 1, GIB + GIB // 2),
        (4, 4 * GIB, 4 * GIB),
    ],
)
def test_sizes_are_rounded_up_to_steps_between_powers_of_two(divisions: int, requested: int, rounded: int) -> None:
    assert AllocatorSettings(roundup_power2_divisions=(divisions,) * 16).rounded(requested) == rounded


def test_each_power_of_two_from_1_mib_on_has_steps_of_its_own() -> None:
    settings = AllocatorSettings(roundup_power2_divisions=(2, 4, *(0,) * 13, 8))
    assert settings.rounded(5 * KIB) == 6 * KIB  # below 1 MiB as from 1 MiB on
    assert settings.rounded(MIB + 1) == MIB + MIB // 2
    assert settings.rounded(2 * MIB + 1) == 2 * MIB + MIB // 2
    assert settings.rounded(4 * MIB + 1) == 4 * MIB + 512
    assert settings.rounded(64 * GIB + 1) == 72 * GIB  # above 32 GiB as from 32 GiB on
