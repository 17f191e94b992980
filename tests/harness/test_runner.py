from __future__ import annotations

import pytest
from record_factory import training_spec

from vnbench.errors import InputError
from vnbench.harness.runner import probe_environment, run_trial
from vnbench.harness.task import TrialTask
from vnbench.record import TrialRecord

ENVIRONMENT = {"device_name": "here", "device_uuid": None}


def trial(behaviour: str, *, timeout_s: float = 60.0) -> TrialRecord:
    task = TrialTask(spec=training_spec(), replicate=0, attempt=2, corpus_directory=None)
    return run_trial(task, environment=ENVIRONMENT, timeout_s=timeout_s, entry=f"scripted_child:{behaviour}")


def test_a_good_trial_comes_back_as_its_record() -> None:
    record = trial("answer_in_order")
    assert record.status == "ok"
    assert record.attempt == 2
    assert record.elapsed_s > 0


@pytest.mark.parametrize(
    ("behaviour", "status", "cause"),
    [
        ("be_killed", "crashed", "signal"),
        ("exit_with_7", "crashed", "exit-code"),
        ("exit_in_order_without_a_record", "crashed", "no-record"),
        ("write_garbage", "crashed", "garbage"),
        ("write_a_torn_record", "crashed", "garbage"),
        ("answer_for_another_trial", "crashed", "garbage"),
        ("raise_an_error", "crashed", "exit-code"),
        ("fill_memory", "crashed", "exit-code"),
    ],
)
def test_a_child_without_a_record_becomes_one(behaviour: str, status: str, cause: str) -> None:
    record = trial(behaviour)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == (status, cause)
    assert record.environment == ENVIRONMENT
    assert TrialRecord.from_json(record.to_json()) == record


def test_a_hanging_trial_is_a_timeout() -> None:
    record = trial("hang", timeout_s=0.4)
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("timeout", "deadline")


def test_a_kill_while_the_system_ran_out_of_memory_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5, 6])
    monkeypatch.setattr("vnbench.harness.process._oom_kill_count", lambda: next(counts))
    record = trial("be_killed")
    assert record.cause is not None
    assert (record.status, record.cause.kind) == ("oom", "host-killed")


def test_the_machine_tells_what_it_is() -> None:
    environment = probe_environment("cpu")
    assert environment["device_type"] == "cpu"
    assert environment["num_cpus"] >= 1
    assert environment["torch_version"]
    assert environment["revision"]


def test_cuda_is_refused_where_there_is_none() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match="--device cuda: "):
        probe_environment("cuda")
