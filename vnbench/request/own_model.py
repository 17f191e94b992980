"""A user's own network or loop as it is named on the command line: ``FILE.py:FUNCTION``, read without running it.

The function of a network takes ``num_classes`` and returns a torch module that maps images, (B, 1, H, W), to logits,
(B, K, H, W), for sides that are multiples of 32. Where it takes further parameters by the names of NEUTRAL, these
levers can be varied; with ``padding`` the module gets the mask of valid pixels, (B, H, W), as a second input when it is
``exact``. The function of a loop takes a network, an optimizer and batches, and trains.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vnbench.errors import InputError
from vnbench.meant import closest
from vnbench.records.spec.axes import AXES

NEUTRAL: Mapping[str, str] = {name: lever.neutral for name, lever in AXES.items() if lever.neutral is not None}
"""Levers of our network's own making, and what each is where a network does not take it."""

REQUIRED = "num_classes"

ID_DIGITS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnModel:
    """A function that makes a network, found in a file."""

    name: str
    """``FILE.py:FUNCTION``, as it was given."""
    path: Path
    """The file."""
    function: str
    """Name of the function, or of a class."""
    levers: tuple[str, ...]
    """Names of NEUTRAL that the function takes."""
    model_id: str
    """Digest of the file and of what it imports from files beside it: a network of another text is another network.
    What it imports by a computed name, or from packages that are installed, is not in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnLoop:
    """A function that runs a training loop, found in a file."""

    name: str
    """``FILE.py:FUNCTION``, as it was given."""
    path: Path
    """The file."""
    function: str
    """Name of the function."""
    loop_id: str
    """Digest of the file and of what it imports from files beside it."""


def is_own_model(name: str) -> bool:
    """Return whether a name is that of a function in a file, or of a file alone, and not of a preset."""
    return ":" in name or name.endswith(".py")


def read_own_model(name: str, *, where: str) -> OwnModel:
    """Return the function that ``FILE.py:FUNCTION`` names. The file is parsed, not run.

    Raises:
        InputError: no such file or function in it, no Python, or a function that takes no ``num_classes``.
    """
    path, function, content, tree = _read(name, where=where)
    parameters = _parameters(tree, function, name=name, where=where, wanted=REQUIRED, job="makes the network")
    if REQUIRED not in parameters:
        raise InputError(
            where,
            name,
            allowed=f"{function} takes no {REQUIRED}",
            remedy=f"write def {function}(*, {REQUIRED}) and return a network that gives {REQUIRED} logits per pixel",
        )
    return OwnModel(
        name=name,
        path=path,
        function=function,
        levers=tuple(lever for lever in NEUTRAL if lever in parameters),
        model_id=_digest_of(path, content, tree),
    )


def read_own_loop(name: str, *, where: str) -> OwnLoop:
    """Return the training loop that ``FILE.py:FUNCTION`` names. The file is parsed, not run.

    Raises:
        InputError: no such file or function in it, or no Python.
    """
    if not is_own_model(name):
        raise InputError(where, name, allowed="this names no function in a file", remedy="write FILE.py:FUNCTION")
    path, function, content, tree = _read(name, where=where)
    _parameters(tree, function, name=name, where=where, wanted="batches", job="trains")
    return OwnLoop(name=name, path=path, function=function, loop_id=_digest_of(path, content, tree))


def _read(name: str, *, where: str) -> tuple[Path, str, bytes, ast.Module]:
    """Return the file of ``FILE.py:FUNCTION``, the function's name, the file's content, and its tree."""
    file, _, function = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    path = Path(file)
    if not _is_text(name):
        # It is part of what a record says was measured.
        raise InputError(where, name, allowed="the name is not UTF-8", remedy="rename the file, or name a link to it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            where, name, allowed=f"{path} cannot be read ({error.strerror})", remedy="write FILE.py:FUNCTION"
        ) from error
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise InputError(where, name, allowed=f"{path} is not Python: {error}", remedy="correct the file") from error
    return path, function, content, tree


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest_of(path: Path, content: bytes, tree: ast.Module) -> str:
    text = hashlib.sha256(content)
    for helper, its_content in sorted(_helpers(path, tree).items()):
        text.update(helper.relative_to(path.parent).as_posix().encode())
        text.update(its_content)
    return text.hexdigest()[:ID_DIGITS]


def _helpers(path: Path, tree: ast.Module) -> dict[Path, bytes]:
    """Return what a file imports from files beside it and from folders beside it, and what these import in turn."""
    found: dict[Path, bytes] = {}
    pending = [(path, tree)]
    while pending:
        importer, tree = pending.pop()
        for helper in {*_imports(importer, tree, root=path.parent)} - {path, *found}:
            # What cannot be read, or is no Python, is told where it is imported.
            with suppress(OSError, SyntaxError, ValueError):
                found[helper] = helper.read_bytes()
                pending.append((helper, ast.parse(found[helper])))
    return found


def _imports(importer: Path, tree: ast.Module, *, root: Path) -> Iterator[Path]:
    """Yield the files that one imports of those that Python would look for below ``root``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (file for alias in node.names for file in _files_of(root, alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            start = root if node.level == 0 else Path(*importer.parts[: -node.level])
            if not start.is_relative_to(root):
                continue
            parts = node.module.split(".") if node.module else []
            yield from (file for alias in node.names for file in _files_of(start, [*parts, alias.name]))


def _files_of(start: Path, parts: Sequence[str]) -> Iterator[Path]:
    """Yield the files of a dotted name, of the packages that it lies in first; its last part may be no module."""
    for end in range(1, len(parts) + 1):
        place = start.joinpath(*parts[:end])
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _parameters(tree: ast.Module, function: str, *, name: str, where: str, wanted: str, job: str) -> list[str]:
    """Return the names of the parameters of a function or class at the top of a module.

    ``wanted`` is the parameter by which the right one among several is known, and ``job`` what it does.
    """
    found = {
        node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    if function not in found:
        file = name if name.endswith(".py") else name.rpartition(":")[0]
        # What takes no classes is a part of a network, or something else.
        makers = [maker for maker, node in found.items() if wanted in _arguments(node)] or list(found)
        meant = closest(function, makers) or next(iter(makers), None)
        raise InputError(
            where,
            name,
            allowed=f"it defines {', '.join(found) or 'nothing'}"
            + (f", and no {function}" if function else f", and does not say which of them {job}"),
            remedy=f"write {file}:{meant}" if meant else "define a function at the top of the file",
        )
    return _arguments(found[function])


def _arguments(node: ast.AST) -> list[str]:
    """Return the names of the parameters of a function, or of what makes an instance of a class."""
    if isinstance(node, ast.ClassDef):
        makers = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        return _arguments(makers[0]) if makers else []
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    return [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
