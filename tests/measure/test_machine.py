from __future__ import annotations

import os
from pathlib import Path

import pytest

from vnbench.measure.machine import machine_settings

CPUS = sorted(os.sched_getaffinity(0))


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_on_a_machine_that_tells_nothing_all_is_null(tmp_path: Path) -> None:
    assert machine_settings(variables={}, root=tmp_path) == {
        "cpu_vendor": None,
        "cpu_family": None,
        "cpu_model": None,
        "cpu_stepping": None,
        "isa_variables": {},
        "cpu_governor": None,
        "is_cpu_turbo": None,
        "cpu_quota_cores": None,
        "shared_memory_bytes": None,
        "shared_memory_free_bytes": None,
        "debugging_variables": {},
        "thread_variables": {},
        "wait_variables": {},
    }


X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 23
model\t\t: 49
model name\t: AMD EPYC
stepping\t: 0

processor\t: 1
vendor_id\t: GenuineIntel
stepping\t: 7
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (X86, ("AuthenticAMD", 23, 49, 0)),
        (X86.replace("stepping\t: 0", "stepping\t: unknown"), ("AuthenticAMD", 23, 49, None)),
        (ARM, ("0x41", 8, 0xD0C, 0x31)),
        ("processor\t: 0\nisa\t: rv64imafdc\n", (None, None, None, None)),
    ],
    ids=["x86", "x86 of no stepping", "ARM", "RISC-V"],
)
def test_the_first_processor_is_told_by_the_numbers_it_gives_itself(
    tmp_path: Path, text: str, numbers: tuple[str | int | None, ...]
) -> None:
    write(tmp_path, "proc/cpuinfo", text)
    settings = machine_settings(root=tmp_path)
    names = ("cpu_vendor", "cpu_family", "cpu_model", "cpu_stepping")
    assert tuple(settings[name] for name in names) == numbers


def test_variables_that_keep_instructions_from_torch_are_told() -> None:
    variables = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": ""}
    told = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    assert machine_settings(variables=variables)["isa_variables"] == told


def test_governors_of_the_usable_cpus_are_told_once_each(tmp_path: Path) -> None:
    for number in CPUS:
        write(tmp_path, f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", "powersave\n")
    assert machine_settings(root=tmp_path)["cpu_governor"] == "powersave"
    write(tmp_path, f"sys/devices/system/cpu/cpu{CPUS[0]}/cpufreq/scaling_governor", "performance\n")
    assert machine_settings(root=tmp_path)["cpu_governor"] in ("performance,powersave", "performance")


@pytest.mark.parametrize(
    ("name", "text", "is_on"),
    [("intel_pstate/no_turbo", "1", False), ("intel_pstate/no_turbo", "0", True), ("cpufreq/boost", "1", True)],
)
def test_turbo_is_told_by_either_driver(tmp_path: Path, name: str, text: str, is_on: bool) -> None:
    write(tmp_path, f"sys/devices/system/cpu/{name}", text)
    assert machine_settings(root=tmp_path)["is_cpu_turbo"] is is_on


def test_the_narrowest_quota_of_nested_control_groups_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/slice/box\n")
    write(tmp_path, "sys/fs/cgroup/slice/box/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/slice/cpu.max", "150000 100000\n")
    assert machine_settings(root=tmp_path)["cpu_quota_cores"] == 1.5


def test_quotas_of_the_first_version_of_control_groups_are_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "3:memory:/box\n1:cpu,cpuacct:/box\n0::/\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert machine_settings(root=tmp_path)["cpu_quota_cores"] is None
    write(tmp_path, "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "400000\n")
    write(tmp_path, "sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    assert machine_settings(root=tmp_path)["cpu_quota_cores"] == 4.0


@pytest.mark.parametrize(
    ("name", "value", "counts"),
    [
        ("CUDA_LAUNCH_BLOCKING", "1", True),
        ("CUDA_LAUNCH_BLOCKING", "0", False),
        ("CUDA_LAUNCH_BLOCKING", "", False),
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "0", True),  # torch looks only whether it is set
        ("PYTHONDEVMODE", "1", True),
        ("PYTHONMALLOC", "pymalloc", False),
        ("PYTHONMALLOC", "pymalloc_debug", True),
        ("PYTHONMALLOC", "malloc", True),
        ("MALLOC_CHECK_", "3", True),
        ("TORCH_LOGS", "+dynamo", True),
        ("HOME", "/root", False),
    ],
)
def test_switches_for_debugging_are_told_where_they_matter(name: str, value: str, counts: bool) -> None:
    expected = {name: value} if counts else {}
    assert machine_settings(variables={name: value})["debugging_variables"] == expected


def test_limits_of_threads_are_told() -> None:
    assert machine_settings(variables={"OMP_NUM_THREADS": "4"})["thread_variables"] == {"OMP_NUM_THREADS": "4"}
    assert machine_settings(variables={"GOMP_SPINCOUNT": "9"})["wait_variables"] == {"GOMP_SPINCOUNT": "9"}
