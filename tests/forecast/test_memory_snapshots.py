from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vnbench.errors import InputError
from vnbench.forecast.plain_pickle import NotPlainError, PlainUnpickler
from vnbench.forecast.recordings import read_recording
from vnbench.forecast.replay import replay
from vnbench.forecast.settings import NAMED, AllocatorSettings
from vnbench.forecast.trace import AllocationTrace

MIB = 2**20
NATIVE, EXPANDABLE = NAMED["native"], NAMED["expandable-segments"]
BASE = 0x7F0000000000


def event(action: str, at: int = 0, size: int = 0, **more: Any) -> dict[str, Any]:
    """Return an event as torch writes it; ``at`` counts from BASE."""
    return {"action": action, "addr": BASE + at, "size": size, "stream": 0, "frames": [], "time_us": 1, **more}


def freed(at: int, size: int) -> list[dict[str, Any]]:
    return [event("free_requested", at, size), event("free_completed", at, size)]


def segment(at: int, size: int, *blocks: tuple[int, int, str], **more: Any) -> dict[str, Any]:
    """Return a segment as torch writes it, with blocks of (bytes, requested bytes, state)."""
    rows, address = [], BASE + at
    for length, requested, state in blocks:
        rows.append({"address": address, "size": length, "requested_size": requested, "state": state, "frames": []})
        address += length
    return {
        "device": 0,
        "address": BASE + at,
        "total_size": size,
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "blocks": rows,
        **more,
    }


def snapshot(traces: list[list[Any]], *segments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"segments": list(segments), "device_traces": traces, "external_annotations": [], **more}


def read(tmp_path: Path, value: Any, *, device_index: int | None = None) -> AllocationTrace:
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))
    return read_recording(path, where="--snapshot", device_index=device_index)


def test_the_start_is_the_end_with_every_event_undone(tmp_path: Path) -> None:
    run = read(
        tmp_path,
        snapshot(
            [
                [
                    *freed(0, 11 * MIB),  # was alive before, in a block of 12 MiB
                    event("alloc", 0, 4 * MIB),
                    event("segment_alloc", 40 * MIB, 14 * MIB),
                    event("alloc", 40 * MIB, 14 * MIB),
                    event("snapshot"),
                ]
            ],
            segment(0, 12 * MIB, (4 * MIB, 4 * MIB, "active_allocated"), (8 * MIB, 0, "inactive")),
            segment(
                20 * MIB, 2 * MIB, (512, 100, "active_allocated"), (2 * MIB - 512, 0, "inactive"), segment_type="small"
            ),
            segment(40 * MIB, 14 * MIB, (14 * MIB, 14 * MIB, "active_allocated")),
        ),
    )
    assert {(one.address - BASE, one.requested, one.size) for one in run.live_at_start} == {
        (0, 11 * MIB, None),
        (20 * MIB, 100, 512),
    }
    assert {(one.address - BASE, one.size, one.is_small) for one in run.segments_at_start} == {
        (0, 12 * MIB, False),
        (20 * MIB, 2 * MIB, True),
    }
    assert [one[0] for one in run.events] == ["free", "alloc", "alloc"]
    assert (run.peak_reserved_bytes, run.num_segments) == (28 * MIB, 1)
    again = replay(run, run.settings)
    assert (again.peak_reserved_bytes, again.num_segments) == (28 * MIB, 1)
    assert again.peak_allocated_bytes == 4 * MIB + 14 * MIB + 512
    assert any("2 blocks" in note for note in run.notes)


def test_segments_that_were_given_back_were_there_before(tmp_path: Path) -> None:
    trace = [
        event("segment_free", 0, 30 * MIB),
        event("segment_alloc", 30 * MIB, 10 * MIB),
        event("alloc", 30 * MIB, 10 * MIB),
    ]
    run = read(tmp_path, snapshot([trace], segment(30 * MIB, 10 * MIB, (10 * MIB, 10 * MIB, "active_allocated"))))
    assert [(one.address - BASE, one.size, one.is_small) for one in run.segments_at_start] == [(0, 30 * MIB, None)]
    assert [one[0] for one in run.events] == ["empty_cache", "alloc"]
    assert run.peak_reserved_bytes == replay(run, NATIVE).peak_reserved_bytes == 30 * MIB


def test_a_free_that_waits_for_another_stream_is_two_events(tmp_path: Path) -> None:
    trace = [
        event("free_completed", 0, 12 * MIB),  # asked for before the recording
        event("alloc", 0, 12 * MIB),
        event("free_requested", 0, 12 * MIB),
        event("alloc", 20 * MIB, 12 * MIB, stream=7),
    ]
    run = read(
        tmp_path,
        snapshot(
            [trace],
            segment(0, 12 * MIB, (12 * MIB, 12 * MIB, "active_pending_free")),
            segment(20 * MIB, 12 * MIB, (12 * MIB, 12 * MIB, "active_allocated"), stream=7),
            segment(40 * MIB, 12 * MIB, (12 * MIB, 12 * MIB, "active_awaiting_free")),  # before, and not yet done
        ),
    )
    assert [(action, address - BASE) for action, address, *_ in run.events] == [
        ("free_requested", 0),
        ("free_requested", 40 * MIB),
        ("free_completed", 0),
        ("alloc", 0),
        ("free_requested", 0),
        ("alloc", 20 * MIB),
    ]
    assert run.events[-1][3] == 7
    again = replay(run, NATIVE)
    assert (again.num_segments, again.num_lost_events, again.peak_allocated_bytes) == (0, 0, 24 * MIB)


def test_the_completion_of_another_free_does_not_end_one_that_waits(tmp_path: Path) -> None:
    sizes = {0: 12 * MIB, 20 * MIB: 14 * MIB}
    allocs = [event("alloc", at, size) for at, size in sizes.items()]
    trace = [
        *allocs,
        event("free_requested", 0, 12 * MIB),
        event("free_requested", 20 * MIB, 14 * MIB),
        event("free_completed", 0, 12 * MIB),
        event("free_completed", 20 * MIB, 14 * MIB),
    ]
    run = read(tmp_path, snapshot([trace]))
    assert [one[0] for one in run.events[2:]] == ["free_requested"] * 2 + ["free_completed"] * 2


def test_mapped_ranges_are_what_they_were_before_pages_came_and_went(tmp_path: Path) -> None:
    page = 20 * MIB
    trace = [
        *freed(page, 2 * page),
        event("segment_unmap", page, 2 * page),
        event("segment_map", page, page),
        event("alloc", page, page),
    ]
    run = read(
        tmp_path,
        snapshot(
            [trace],
            segment(
                0, 2 * page, (page, page, "active_allocated"), (page, page, "active_allocated"), is_expandable=True
            ),
            allocator_settings={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "expandable_segments": True},
        ),
    )
    assert (run.settings, run.settings_text) == (EXPANDABLE, "expandable-segments")
    assert [(one.address - BASE, one.size, one.is_small) for one in run.segments_at_start] == [
        (0, page, False),
        (page, 2 * page, False),
    ]
    assert run.peak_reserved_bytes == 3 * page
    again = replay(run, run.settings)
    assert (again.peak_reserved_bytes, again.num_segments, again.num_lost_events) == (3 * page, 1, 0)
    assert again.peak_allocated_bytes == 3 * page


def test_the_pool_of_pages_that_went_is_told_by_their_number_or_by_the_nearest_block(tmp_path: Path) -> None:
    page, far = 20 * MIB, 2**40
    trace = [
        event("alloc", far, 100),
        *freed(far, 100),
        event("alloc", 2 * far, page),
        *freed(2 * far, page),
        event("segment_unmap", far, page),
        event("segment_unmap", 2 * far, page),
        event("segment_unmap", 2 * far + 2 * page, 2 * MIB),
    ]
    run = read(tmp_path, snapshot([trace]))
    assert [one.is_small for one in run.segments_at_start] == [True, False, True]


@pytest.mark.parametrize(
    ("said", "settings", "text"),
    [
        (None, NATIVE, "native"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "", "expandable_segments": False}, NATIVE, "native"),
        (
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"},
            AllocatorSettings(max_split_bytes=64 * MIB),
            "max_split_size_mb:64",
        ),
        ({"PYTORCH_CUDA_ALLOC_CONF": "of_tomorrow:64"}, NATIVE, "native"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "pinned_free_catch_all:\x1b[2J"}, NATIVE, "native"),
        ({"PYTORCH_CUDA_ALLOC_CONF": ["x"], "expandable_segments": True}, EXPANDABLE, "expandable-segments"),
        ("x", NATIVE, "native"),
    ],
)
def test_the_settings_are_those_of_the_recording(
    tmp_path: Path, said: Any, settings: AllocatorSettings, text: str
) -> None:
    run = read(tmp_path, snapshot([[event("alloc", 0, 5)]], allocator_settings=said))
    assert (run.settings, run.settings_text) == (settings, text)


def test_a_pool_of_a_graph_shares_with_no_other(tmp_path: Path) -> None:
    trace = [
        event("alloc", 0, 12 * MIB, pool_id=(0, 3)),
        *[event(one["action"], 0, 12 * MIB, pool_id=(0, 3)) for one in freed(0, 12 * MIB)],
        event("alloc", 20 * MIB, 12 * MIB),
        event("alloc", 0, 12 * MIB, pool_id=(0, 3)),
    ]
    run = read(tmp_path, snapshot([trace]))
    assert replay(run, NATIVE).num_segments == 2
    assert any("1 pool of CUDA graphs" in note for note in run.notes)


def test_the_device_that_has_events_is_told_of(tmp_path: Path) -> None:
    other = segment(0, 30 * MIB, (30 * MIB, 30 * MIB, "active_allocated"), device=0)
    run = read(tmp_path, snapshot([[], [event("alloc", 0, 5)], []], other))
    assert run.segments_at_start == ()
    assert run.notes[0] == "Device 1 is told of; it has 1 events."


def test_of_several_devices_with_events_one_has_to_be_named(tmp_path: Path) -> None:
    both = snapshot([[event("alloc", 0, 5)], [event("alloc", 0, 12 * MIB), event("oom", size=9, device_free=3)]])
    with pytest.raises(InputError, match=r"^--device-index: .* device 0 \(1\), 1 \(2\); write --device-index 0"):
        read(tmp_path, both)
    with pytest.raises(InputError, match=r"^--device-index 7: "):
        read(tmp_path, both, device_index=7)
    run = read(tmp_path, both, device_index=1)
    assert replay(run, NATIVE).peak_reserved_bytes == 12 * MIB
    assert any("out of memory" in note for note in run.notes)


@pytest.mark.parametrize("value", [snapshot([[], []], segment(0, MIB)), [segment(0, MIB)], {"segments": []}])
def test_a_snapshot_without_events_says_how_they_are_recorded(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"torch\.cuda\.memory\._record_memory_history\(\)"):
        read(tmp_path, value)


def test_a_snapshot_may_be_compressed(tmp_path: Path) -> None:
    whole = pickle.dumps(snapshot([[event("alloc", 0, 5)]]))
    assert len(read(tmp_path, gzip.compress(whole)).events) == 1
    with pytest.raises(InputError, match="cannot be unpacked"):
        read(tmp_path, gzip.compress(whole)[:-9])


class Runs:
    """Runs a command when it is unpickled as code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_snapshot_is_run(tmp_path: Path, protocol: int) -> None:
    hostile = snapshot([[event("alloc", 0, 5)]], more=Runs(tmp_path / "run"))
    with pytest.raises(InputError, match=r"it holds (STACK_)?GLOBAL at byte \d+, which is no plain data"):
        read(tmp_path, pickle.dumps(hostile, protocol=protocol))
    assert not (tmp_path / "run").exists()


def test_an_unpickler_that_comes_to_code_refuses_it_itself(tmp_path: Path) -> None:
    for content in (pickle.dumps(Runs(tmp_path / "run")), b"\x80\x02P1\n."):
        with pytest.raises(NotPlainError, match="it asks for"):
            PlainUnpickler(io.BytesIO(content)).load()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x02\x82\x01.",  # EXT1, of the registry
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"\x80\x02P1\n.",  # PERSID
        b"\x80\x02NQ.",  # BINPERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02N}b.",  # BUILD, of nothing
        b"\x80\x02R.",
        b"\x80\xff.",
        b"\x80\x04\x95" + b"\xff" * 8,  # a frame of any length
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x",  # bytes of any length
        b"\x80\x05\x96" + struct.pack("<Q", 2**44) + b"x",
        b"\x80\x04N" + b"r" + struct.pack("<I", 2**32 - 2) + b".",  # a memo of any size
        b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",  # lists in lists
        b"\x80\x02" + b")" + b"\x85" * 300_000 + b".",  # tuples in tuples
        b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.",  # and hashed
        b"\x80\x02}K\x00" + b"K\x00\x86" * 300_000 + b"Ns.",
        b"\x80\x02}(" + b"(" * 300_000 + b"t" * 300_000 + b"Ns.",
        b"\x80\x02}NN" + b"\x86" + b"2\x86" * 90 + b"Ns.",  # and hashed 2 ** 90 times
        b"\x80\x04\x8f(K\x01\x90.",  # sets
        b"\x80\x02Np99999999999\n.",
        b"\x80\x02Npx\n.",
        b"\x80\x02I" + b"9" * 10_000 + b"\n.",
        b"I1",
        b"\x80\x02]" + b"q\x00h\x00a.",  # a list that holds itself
        b"",
        b"\x80",
        b"\x80\x04.",
        b"hello",
        pickle.dumps(snapshot([[event("alloc", 0, 5)]]))[:-20],
    ],
)
def test_a_hostile_or_torn_file_ends_in_a_message(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError):
        read(tmp_path, content)


@pytest.mark.processes
def test_a_file_that_unpacks_to_far_more_than_a_recording_is_refused_in_time(tmp_path: Path) -> None:
    """In a process of its own: one that has freed memory before may have room for it."""
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(gzip.compress(bytes(2**28), compresslevel=1))
    script = (
        "import resource, sys; from pathlib import Path; from vnbench.errors import InputError\n"
        "from vnbench.forecast import recordings\n"
        "before = resource.getrlimit(resource.RLIMIT_AS); recordings.ROOM_BYTES = 2**24\n"
        "try: recordings.read_recording(Path(sys.argv[1]), where='--snapshot')\n"
        "except InputError as error: print(error)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == before"
    )
    ended = subprocess.run([sys.executable, "-c", script, path], capture_output=True, encoding="utf-8", check=True)
    assert "far more memory than a recording of its size" in ended.stdout


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "'segments': must be a list"),
        ({"segments": 5}, "'segments': must be a list"),
        ({"device_traces": [[1]]}, "'segments': must be a list"),
        ({"segments": [], "device_traces": [5]}, "'device_traces': must be a list of events for each device"),
        (snapshot([[5]]), "device_traces[0][0]: must be an event"),
        (snapshot([[event("alloc", 0, 5), event("melt")]]), "device_traces[0][1]: must be an event"),
        (snapshot([[{"action": "alloc", "addr": 1}]]), "device_traces[0][0]: size: holds None"),
        (snapshot([[event("alloc", 0, -5)]]), "device_traces[0][0]: size: holds -5"),
        (snapshot([[event("alloc", 0, 5, stream="\x1b[2J")]]), r"device_traces[0][0]: stream: holds '\x1b[2J'"),
        (snapshot([[event("alloc", 0, 5, pool_id=3)]]), "device_traces[0][0]: pool_id: must be a pair"),
        (snapshot([[event("alloc", 0, [[]])]]), "device_traces[0][0]: size: holds what is of type list"),
        (snapshot([[event("alloc", 0, 5)]], {"device": 0}), "segments[0]: address: holds None"),
        (snapshot([[event("alloc", 0, 5)]], segment(0, MIB) | {"blocks": 5}), "segments[0]: blocks: must be a list"),
        (snapshot([[event("alloc", 0, 5)]], 5), "'segments': must hold dictionaries"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_snapshot_is_refused_with_the_place(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, value)
    assert told in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--snapshot .*cannot be read"):
        read_recording(tmp_path / "none", where="--snapshot")
    with pytest.raises(InputError, match="regular file"):
        read_recording(tmp_path, where="--snapshot")


def test_a_recording_of_plain_events_is_known_by_its_beginning(tmp_path: Path) -> None:
    run = read(tmp_path, b' {"events": [["alloc", 0, 5, 0]]}')
    assert run.events == (("alloc", 0, 5, 0),)
