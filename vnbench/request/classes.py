"""What the numbers in the masks mean, and how many classes the network tells apart: four options that go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vnbench.errors import InputError
from vnbench.records.spec.words import MAX_CLASSES, NUM_CLASSES, Task


def settle_classes(values: Mapping[str, Any], *, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of task, classes, mask-values and ignore-value, each None where it says nothing of its own.

    ``values`` are over defaults, ``asked`` without. One name for one thing: two classes are the binary task, and three
    the other one. Numbers of classes that are listed as they are, 0,1,2, are no list.

    Raises:
        InputError: two of the options contradict each other, or the masks are synthetic.
    """
    listed: tuple[int, ...] | None = values.get("mask-values")
    ignored: int | None = values.get("ignore-value")
    for name in ("mask-values", "ignore-value"):
        if name in asked and not asked.keys() & {"images", "corpus"}:
            raise InputError(
                f"--{name}",
                _text(asked[name]),
                allowed="the masks of synthetic images hold classes already",
                remedy=f"leave --{name} out, or name your own with --images DIR",
            )
    if listed is not None and ignored in listed:
        raise InputError(
            "--ignore-value",
            ignored,
            allowed=f"--mask-values {_text(listed)} has it too",
            remedy="leave it out of one of them",
        )
    if listed is not None and not 2 <= len(listed) <= MAX_CLASSES:
        raise InputError(
            "--mask-values",
            _text(listed),
            allowed=f"a network tells 2 to {MAX_CLASSES} classes apart",
            remedy="list the number of each class, background first",
        )
    classes: int = len(listed) if listed is not None else values.get("classes") or NUM_CLASSES[values["task"]]
    if values.get("classes", classes) != classes:
        raise InputError(
            "--classes",
            values["classes"],
            allowed=f"--mask-values {_text(listed)} lists {classes}",
            remedy="leave --classes out",
        )
    task: Task = "binary" if classes == NUM_CLASSES["binary"] else "multiclass"
    task = values["task"] if "task" in asked else task
    if task == "binary" and classes != NUM_CLASSES["binary"]:
        raise InputError(
            "--task", task, allowed=f"it has 2 classes, and {classes} were asked for", remedy="leave --task out"
        )
    return {
        "task": task,
        "classes": None if classes == NUM_CLASSES[task] else classes,
        "mask-values": None if listed == tuple(range(classes)) else listed,
        "ignore-value": ignored,
    }


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
