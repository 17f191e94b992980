from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vnbench.images.cache_root import cache_roots, default_cache_root
from vnbench.processes.user_cache import can_be_written, settle_matplotlib, temporary_cache, user_cache

NO_USER = 64_123


@pytest.mark.parametrize(
    ("configured", "expected"), [("big", "big/vnbench"), (None, "me/.cache/vnbench"), ("", "me/.cache/vnbench")]
)
def test_the_cache_follows_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configured: str | None, expected: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if configured is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / configured) if configured else "relative")
    assert user_cache() == tmp_path / expected
    assert default_cache_root() == tmp_path / expected / "corpora"


def test_where_the_cache_cannot_be_a_folder_the_temporary_one_holds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for place in (tmp_path / "file" / "cache", tmp_path / "gone" / "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert user_cache() == temporary_cache()
        assert can_be_written(temporary_cache())
        # A cache that was filled by somebody else is read all the same.
        assert cache_roots()[1] == place / "vnbench" / "corpora"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become a user without an entry or a home")
def test_a_user_without_a_home_or_an_entry_has_a_cache() -> None:
    script = (
        "import os; from vnbench.processes.user_cache import user_cache, can_be_written\n"
        f"os.setuid({NO_USER}); os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None)\n"
        "assert can_be_written(user_cache()), user_cache()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_matplotlib_gets_a_folder_where_its_own_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settle_matplotlib()
    assert "MPLCONFIGDIR" not in os.environ
    (tmp_path / "config").touch()
    settle_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "vnbench" / "matplotlib")
    monkeypatch.setenv("MPLCONFIGDIR", "chosen")
    settle_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == "chosen"
