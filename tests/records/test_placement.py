from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from vnbench.errors import InputError
from vnbench.records.placement import place_results, placed
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.records.store import ResultsFile, load_all

ENVIRONMENT: dict[str, Any] = {
    "device_name": "AMD EPYC",
    "device_capability": None,
    "cpu_vendor": "AuthenticAMD",
    "cpu_family": 25,
    "cpu_model": 1,
    "cpu_stepping": 1,
    "cpu_capability": "AVX2",
    "isa_variables": {},
    "num_cpus": 2,
    "num_threads": 2,
    "torch_version": "2.13.0",
    "revision": "abc",
}
CORPUS = "0123456789ab"


def write(path: Path, *, environment: dict[str, Any] = ENVIRONMENT, spec: TrialSpec | None = None) -> None:
    with ResultsFile(path, environment=environment) as results:
        results.append(factory.record_of(spec or factory.training_spec(corpus_id=CORPUS), environment=environment))


def test_a_file_that_is_not_there_or_empty_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert place_results(path, environment=ENVIRONMENT, corpus_id=CORPUS).path == path
    assert not path.exists(), "nothing is written"
    path.touch()
    assert place_results(path, environment=ENVIRONMENT, corpus_id=CORPUS).path == path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"device_name": "Intel Xeon"}, "device_name AMD EPYC there, Intel Xeon here"),
        ({"cpu_vendor": "GenuineIntel"}, "cpu_vendor AuthenticAMD there, GenuineIntel here"),
        ({"cpu_family": 23}, "cpu_family 25 there, 23 here"),
        ({"cpu_model": 17}, "cpu_model 1 there, 17 here"),
        ({"cpu_capability": "AVX512"}, "cpu_capability AVX2 there, AVX512 here"),
        (
            {"isa_variables": {"ONEDNN_MAX_CPU_ISA": "AVX2"}},
            "isa_variables none there, ONEDNN_MAX_CPU_ISA=AVX2 here",
        ),
        ({"num_cpus": 1}, "num_cpus 2 there, 1 here"),
        ({"num_threads": 1}, "num_threads 2 there, 1 here"),
        ({"torch_version": "2.12.0"}, "torch_version 2.13.0 there, 2.12.0 here"),
        ({"revision": "def"}, "revision abc there, def here"),
    ],
)
def test_under_another_machine_or_version_a_file_of_its_own_is_begun_and_both_are_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = tmp_path / "r.jsonl"
    write(path)
    place = place_results(path, environment=ENVIRONMENT | changes, corpus_id=CORPUS)
    assert place.path == tmp_path / "r.2.jsonl"
    assert place.notes == (f"{path} holds other records ({told}); these go to {tmp_path / 'r.2.jsonl'}",)


def test_another_gpu_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, environment=ENVIRONMENT | {"device_capability": "7.5"})
    place = place_results(path, environment=ENVIRONMENT | {"device_capability": "8.0"})
    assert place.path == tmp_path / "r.2.jsonl"


def test_the_same_command_goes_on_with_the_file_of_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    machines = [ENVIRONMENT, ENVIRONMENT | {"num_threads": 1}, ENVIRONMENT | {"num_threads": 4}]
    for machine in machines:
        write(place_results(path, environment=machine, corpus_id=CORPUS).path, environment=machine)
    names = [place_results(path, environment=machine, corpus_id=CORPUS).path.name for machine in machines]
    assert names == ["r.jsonl", "r.2.jsonl", "r.3.jsonl"]
    assert len(place_results(path, environment=machines[2], corpus_id=CORPUS).notes) == 2


def test_each_revision_goes_on_with_its_own_file_and_those_of_all_are_read_together(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    revisions = [ENVIRONMENT | {"revision": name} for name in ("abc", "abc+mended", "def")]
    for revision in (*revisions, *revisions):
        write(place_results(path, environment=revision, corpus_id=CORPUS).path, environment=revision)
    paths = [place_results(path, environment=revision, corpus_id=CORPUS).path for revision in revisions]
    assert [one.name for one in paths] == ["r.jsonl", "r.2.jsonl", "r.3.jsonl"]
    told = [record.environment["revision"] for record in load_all(paths).records]
    assert told == ["abc", "abc", "abc+mended", "abc+mended", "def", "def"]


def test_another_corpus_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path)
    place = place_results(path, environment=ENVIRONMENT, corpus_id="ba9876543210")
    assert place.path == tmp_path / "r.2.jsonl"
    assert f"corpus {CORPUS} there, ba9876543210 here" in place.notes[0]


def test_records_that_name_no_corpus_keep_none_away(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path, spec=factory.memory_spec(factory.training_spec()))
    assert place_results(path, environment=ENVIRONMENT, corpus_id=CORPUS).path == path


def test_what_older_records_do_not_tell_is_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    names = ("device_name", "torch_version", "revision", "num_cpus", "num_threads")
    write(path, environment={name: ENVIRONMENT[name] for name in names})
    assert place_results(path, environment=ENVIRONMENT, corpus_id=CORPUS).path == path


def test_a_stepping_is_no_other_machine(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path)
    assert place_results(path, environment=ENVIRONMENT | {"cpu_stepping": 2}, corpus_id=CORPUS).path == path


def test_a_file_in_use_on_this_machine_is_taken_and_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write(path)
    with ResultsFile(path, environment=ENVIRONMENT):
        place = place_results(path, environment=ENVIRONMENT, corpus_id=CORPUS)
        assert place.path == path
        with pytest.raises(InputError, match="another sweep is writing this file"):
            ResultsFile(place.path, environment=ENVIRONMENT)


def test_what_several_sweeps_left_beside_one_file_is_found_together(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert placed(path) == (path,)
    for revision in ("a", "b", "c"):
        environment = ENVIRONMENT | {"revision": revision}
        write(place_results(path, environment=environment).path, environment=environment)
    (tmp_path / "r.5.jsonl").touch()
    assert [one.name for one in placed(path)] == ["r.jsonl", "r.2.jsonl", "r.3.jsonl"]
