"""What the user said of a sweep: flags over a TOML file, before defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vnbench.errors import InputError
from vnbench.meant import closest
from vnbench.request.options import OPTIONS
from vnbench.texts import decoded

NOT_OF_A_SEARCH = {
    "batch-size",
    "micro-batch-size",
    "kind",
    "soak",
    "snapshot-mode",
    "snapshot-target",
    "memory-by",
    "replicates",
    "reference-runs",
    "center",
    "design",
}
"""Options that say what a search for the largest micro-batch finds by itself, or has no use for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What the user said: parsed values by option name, and where each was said, before defaults."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Parsed values of the options that were given."""
    is_from_file: bool = False
    """Whether a configuration file defines the sweep."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The same as they were written: on the command line, or else in the file."""

    @property
    def device(self) -> str:
        """The device asked for: auto, cuda or cpu."""
        return str(self.values.get("device", "auto"))


OF_DRAWN_IMAGES = {"size-law", "examples"}
"""Options that say nothing of images of one's own; widths and heights say which worst case is measured with them."""


def check_folders(request: Request) -> None:
    """Check that a folder of images is there, and one for snapshots, before torch is started to use them.

    Raises:
        InputError: there is no such folder; of images, one with a name like it is named.
    """
    target: Path | None = request.values.get("snapshot-target")
    if target is not None and not target.is_dir():
        raise InputError("--snapshot-target", target, allowed="there is no such folder", remedy="make it, or name one")
    for name in ("images", "corpus"):
        folder: Path | None = request.values.get(name)
        if folder is not None and not folder.exists():
            beside = [one.name for one in folder.parent.iterdir() if one.is_dir()] if folder.parent.is_dir() else []
            meant = closest(folder.name, beside)
            raise InputError(
                f"--{name}",
                folder,
                allowed="there is no such folder",
                remedy=f"write {folder.with_name(meant)}"
                if meant
                else "name a folder of images and masks, or write one with vnbench corpus",
            )


def _of_one_source(given: Mapping[str, tuple[str, str]], flags: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    """Return what was given without what a file says of drawn images, where flags name images of one's own."""
    is_own = any(flags.get(name) is not None for name in ("images", "corpus"))
    return {
        name: told
        for name, told in given.items()
        if not (is_own and name in OF_DRAWN_IMAGES and flags.get(name) is None)
    }


def read_request(flags: Mapping[str, str | None], *, config_path: Path | None) -> Request:
    """Return what the flags say, and for the rest what the configuration file says.

    Raises:
        InputError: a value that its option does not take, options that exclude each other, an unknown name in the file,
            or a file that is no TOML.
    """
    given = {name: (text, f"{config_path}: {name}") for name, text in _read_toml(config_path).items()}
    given |= {name: (text, f"--{name}") for name, text in flags.items() if text is not None}
    given = _of_one_source(given, flags)
    values = {name: OPTIONS[name].parse(text, where) for name, (text, where) in given.items()}
    if "sizes" in values and ("widths" in values or "heights" in values):
        raise InputError(
            "--sizes",
            values["sizes"],
            allowed="the file names the sizes already",
            remedy="leave --widths and --heights out",
        )
    for own in ("corpus", "images"):
        if own in values and "sizes" in values:
            raise InputError(
                "--sizes",
                values["sizes"],
                allowed=f"the images of --{own} have sizes already",
                remedy="leave one of them out",
            )
    for own in ("corpus", "images"):
        if own in values and (drawn := sorted(values.keys() & OF_DRAWN_IMAGES)):
            raise InputError(
                f"--{drawn[0]}",
                given[drawn[0]][0],
                allowed=f"it describes synthetic images, and --{own} names yours",
                remedy="leave it out",
            )
    if "corpus" in values and "images" in values:
        raise InputError(
            "--images", values["images"], allowed="--corpus names images too", remedy="leave one of them out"
        )
    if not values.keys() & {"widths", "sizes", "corpus", "images"}:
        raise InputError(
            "--widths",
            allowed="the sizes of the images are needed",
            remedy="write --widths 3200:12800, --sizes FILE.csv or --images DIR",
        )
    if values.get("find-max-batch") and (clash := sorted(values.keys() & NOT_OF_A_SEARCH)):
        raise InputError(
            "--find-max-batch",
            allowed=f"the search sets --{clash[0]} by itself",
            remedy=f"leave --{clash[0]} out, or search in a command of its own",
        )
    if values.get("design") == "factored" and "kind" in values:
        raise InputError(
            "--kind",
            ",".join(values["kind"]),
            allowed="the factored design decides what is measured",
            remedy="leave --kind out, or write --design one-at-a-time",
        )
    return Request(
        values=values,
        texts={name: text for name, (text, _) in given.items()},
        is_from_file=config_path is not None,
    )


def _read_toml(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(decoded(path.read_bytes()))
    except OSError as error:
        raise InputError(
            "--config", path, allowed=f"the file cannot be read ({error.strerror})", remedy="name a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("--config", path, allowed=f"this is not TOML: {error}", remedy="correct the line") from error
    for name in content:
        if name not in OPTIONS:
            raise InputError(
                str(path),
                name,
                allowed=f"no option has this name; known are {', '.join(sorted(OPTIONS))}",
                remedy=f"write {closest(name, OPTIONS) or 'one of these'}",
            )
    # A path in a configuration file is relative to the working folder, as on the command line.
    return {
        name: ("yes" if value else "no")
        if OPTIONS[name].is_switch and isinstance(value, bool)
        else _as_text(value, where=f"{path}: {name}")
        for name, value in content.items()
    }


def _as_text(value: object, *, where: str) -> str:
    if isinstance(value, list):
        return ",".join(_as_text(item, where=where) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={_as_text(item, where=where)}" for name, item in value.items())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(where, repr(value), allowed="a text, a number or a list is needed", remedy="quote the value")
    return str(value)
