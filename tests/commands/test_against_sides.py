"""What the working folder is compared with, and where each side runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from network_repository import NETWORK, git, make_repository

from vnbench.cli.app import run
from vnbench.commands.gate.against.environments import homes_of
from vnbench.commands.gate.against.revisions import Tree, baseline_tree, candidate_tree
from vnbench.errors import InputError

ROOT = Path(__file__).parents[2]
SIDES = ("baseline", "candidate")

# ---- What is compared


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = make_repository(tmp_path / "repository")
    monkeypatch.chdir(folder)
    return folder


def test_a_revision_is_extracted_into_the_cache_and_leaves_the_repository_as_it_is(repository: Path) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "worktree", "list")
    tree = baseline_tree("first", candidate=candidate_tree(repository / "nets"))
    assert (tree.folder / "net.py").read_text() == NETWORK
    assert tree.folder == tree.root / "nets"
    assert not tree.root.is_relative_to(repository)
    assert (git(repository, "status", "--porcelain"), git(repository, "worktree", "list")) == before
    assert baseline_tree("HEAD~", candidate=candidate_tree(repository)).root == tree.root
    assert [path.name for path in tree.root.parent.iterdir()] == [tree.root.name]


def test_the_working_folder_counts_as_it_is_and_says_so(repository: Path) -> None:
    clean = candidate_tree(repository)
    assert clean.name == git(repository, "rev-parse", "--short=12", "HEAD")
    (repository / "results.jsonl").write_text("{}")
    assert candidate_tree(repository) == clean
    (repository / "nets" / "net.py").write_text(NETWORK)
    changed = candidate_tree(repository)
    assert "uncommitted changes" in changed.told
    (repository / "nets" / "helper.py").write_text("")
    names = {clean.name, changed.name, candidate_tree(repository).name}
    assert len(names) == 3
    assert all(name.startswith(clean.name) for name in names)


@pytest.mark.parametrize("asked", ["frist", "-x", "HEAD:nets", "main..first"])
def test_a_revision_that_there_is_not_is_refused_with_what_is_near(repository: Path, asked: str) -> None:
    with pytest.raises(InputError) as caught:
        baseline_tree(asked, candidate=candidate_tree(repository))
    assert "no such revision" in str(caught.value)
    if asked == "frist":
        assert str(caught.value).endswith("write first")


def test_a_revision_needs_a_repository_and_a_folder_does_not(tmp_path: Path) -> None:
    candidate = candidate_tree(tmp_path)
    with pytest.raises(InputError, match="no git repository"):
        baseline_tree("main", candidate=candidate)
    (tmp_path / "other").mkdir()
    assert baseline_tree(str(tmp_path / "other"), candidate=candidate).root == tmp_path / "other"


def test_a_revision_without_the_working_folder_is_refused(repository: Path) -> None:
    (repository / "later").mkdir()
    (repository / "later" / "net.py").write_text(NETWORK)
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "three")
    with pytest.raises(InputError, match="has no folder later"):
        baseline_tree("first", candidate=candidate_tree(repository / "later"))


# ---- With what it is measured


def source_tree(folder: Path, *, requires: str = "torch", name: str = "vnbench") -> Tree:
    (folder / "vnbench").mkdir(parents=True)
    (folder / "vnbench" / "__main__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\ndependencies = ["{requires}"]\n')
    return Tree(name=folder.name, told=folder.name, root=folder, folder=folder)


def told_nothing(line: str) -> None:
    raise AssertionError(line)


def test_sides_that_need_the_same_packages_share_an_interpreter_and_each_runs_its_own_source(tmp_path: Path) -> None:
    trees = [source_tree(tmp_path / side) for side in SIDES]
    homes = homes_of(trees[0], trees[1], tell=told_nothing)
    assert [home.python for home in homes] == [Path(sys.executable)] * 2
    assert [home.source for home in homes] == [tree.root for tree in trees]


def test_a_checkout_with_an_environment_of_its_own_runs_in_it(tmp_path: Path) -> None:
    trees = [source_tree(tmp_path / side) for side in SIDES]
    own = trees[0].root / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.touch()
    assert [home.python for home in homes_of(trees[0], trees[1], tell=told_nothing)] == [own, Path(sys.executable)]


def test_a_dry_run_names_the_environment_that_would_be_made_and_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trees = [source_tree(tmp_path / side, requires=f"torch!={side}") for side in SIDES]
    told: list[str] = []
    homes = homes_of(trees[0], trees[1], tell=told.append, is_dry_run=True)
    (line,) = told
    assert line.endswith(f"would be installed into {homes[0].python.parents[1]}")
    assert homes[0].python.is_relative_to(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_outside_of_vnbench_the_installed_one_measures_both_trees(tmp_path: Path) -> None:
    trees = [source_tree(tmp_path / side, name="nets") for side in SIDES]
    homes = homes_of(trees[0], trees[1], tell=told_nothing)
    assert {home.source for home in homes} <= {ROOT, None}
    assert [home.folder for home in homes] == [tree.folder for tree in trees]


def test_a_folder_without_vnbench_is_no_baseline_of_it(tmp_path: Path) -> None:
    candidate = source_tree(tmp_path / "candidate")
    bare = Tree(name="bare", told="bare", root=tmp_path, folder=tmp_path)
    with pytest.raises(InputError, match="no source tree of vnbench"):
        homes_of(bare, candidate, tell=told_nothing)


# ---- What the command refuses


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "BASELINE CANDIDATE: a gate needs two sides; write vnbench gate BASELINE CANDIDATE"),
        (("--against", "first", "a", "b"), "--against first: it measures both sides now, so a b has no place"),
        (("--against", ""), "--against '': it is empty; name a revision or a folder"),
        (("--against", "first", "--update"), "so --update has no place"),
        (("a", "b", "--kind", "memory"), "--kind: files were measured already, and only --against measures"),
        (("a", "b", "--dry-run"), "--dry-run: files were measured already, and only --against measures"),
        (("a", "b", "--config", "x.toml"), "--config: files were measured already"),
        (
            ("--against", "first"),
            "so --against compares a network of your own; write --model FILE.py",
        ),
        (("--against", "first", "--model", "veernet"), "--model veernet: "),
        (("--against", "first", "--model", "nets/net.py:build", "--replicates", "2"), "leave --replicates out"),
        (("--against", "no", "--model", "nets/net.py:build"), "--against no: there is no such folder"),
    ],
)
def test_the_command_refuses_what_makes_no_gate(
    repository: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gate", *arguments]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""
