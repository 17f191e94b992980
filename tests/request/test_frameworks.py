from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from vnbench.errors import InputError
from vnbench.request import frameworks
from vnbench.request.frameworks import check_loops


def test_the_own_loop_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "version", lambda name: pytest.fail("nothing is looked for"))
    check_loops(["own"])


def test_a_missing_framework_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(frameworks, "version", missing)
    with pytest.raises(
        InputError, match=r"--loop(.|\n)*lightning is not installed(.|\n)*pip install 'vnbench\[lightning\]'"
    ):
        check_loops(["own", "fabric"])


@pytest.mark.parametrize("release", frameworks.POISONED)
def test_a_release_that_is_malware_is_refused_before_it_is_imported(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frameworks, "version", lambda name: release)
    with pytest.raises(InputError, match=f"{release} is malware"):
        check_loops(["lightning"])
