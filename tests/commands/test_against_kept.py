"""What gates keep in the user's cache, and what they drop from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vnbench.commands.gate.against.kept import ENVIRONMENTS, MOST_KEPT, TREES, kept_in_use, mark_used, place_of


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make(kind: str, name: str, *, used: int) -> Path:
    place = place_of(kind) / name
    (place / "inner").mkdir(parents=True)
    os.utime(place, (used, used))
    return place


@pytest.mark.parametrize("kind", [TREES, ENVIRONMENTS])
def test_those_used_last_are_kept(kind: str) -> None:
    most = MOST_KEPT[kind]
    places = [make(kind, f"p{number}", used=1000 + number) for number in range(most + 2)]
    with kept_in_use():
        mark_used(places[0])
    assert [place.exists() for place in places] == [True, False, False, *[True] * (most - 1)]


def test_nothing_is_dropped_while_another_gate_runs() -> None:
    places = [make(TREES, f"p{number}", used=1000 + number) for number in range(MOST_KEPT[TREES] + 1)]
    with kept_in_use():
        with kept_in_use():
            pass
        assert all(place.exists() for place in places)
    assert [place.exists() for place in places] == [False, *[True] * MOST_KEPT[TREES]]


def test_an_interrupted_gate_drops_too_and_half_a_tree_that_a_killed_one_left() -> None:
    half, whole = make(TREES, "partial-x", used=2000), make(TREES, "p", used=1000)
    with pytest.raises(KeyboardInterrupt), kept_in_use():
        raise KeyboardInterrupt
    assert not half.exists()
    assert whole.exists()


def test_a_cache_that_cannot_be_made_hinders_no_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("vnbench.commands.gate.against.kept.user_cache", lambda: tmp_path / "file" / "vnbench")
    with kept_in_use():
        pass
