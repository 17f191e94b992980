"""Children that behave in every way that a trial's process can: entries for vnbench.processes.parent.run_child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vnbench.records.record import TrialRecord
from vnbench.records.step_trace import TraceOrder
from vnbench.records.task import TrialTask

LONG_S = 600
MEASURED_S = 1.2

BEGUN, SEEN = "begun", "seen"
"""Files by which a child tells its parent that it measures, and its parent that it may end."""


def record_of_task(task: TrialTask) -> TrialRecord:
    return TrialRecord(
        spec=task.spec,
        replicate=task.replicate,
        attempt=task.attempt,
        status="ok",
        cause=None,
        environment={"device_name": "scripted"},
        started_at="2026-01-01T00:00:00+00:00",
        elapsed_s=0.0,
    )


def echo(payload: str) -> str:
    return payload


def answer_in_order(payload: str) -> str:
    return record_of_task(TrialTask.from_json(payload)).to_json()


def answer_for_the_first_of_all(payload: str) -> str:
    first, *others = (TrialTask.from_json(text) for text in json.loads(payload))
    return json.dumps([record_of_task(first).to_json(), *("no record" for _ in others)])


def measure_while_asleep(payload: str) -> str:
    return _measured(payload, lambda: time.sleep(MEASURED_S))


def measure_until_seen(payload: str) -> str:
    """Measure until the parent has seen enough of the machine: until SEEN lies in the folder of the task's corpus."""
    folder = _folder(payload)

    def work() -> None:
        (folder / BEGUN).touch()
        _wait_for(folder / SEEN)

    return _measured(payload, work)


def answer_once_seen(payload: str) -> str:
    """Answer without a span, a while after the parent has seen enough."""
    (_folder(payload) / BEGUN).touch()
    _wait_for(_folder(payload) / SEEN)
    time.sleep(MEASURED_S)
    return answer_in_order(payload)


def measure_while_a_worker_computes(payload: str) -> str:
    script = f"import time; end = time.process_time() + {MEASURED_S}\nwhile time.process_time() < end: pass"
    return _measured(payload, lambda: subprocess.run([sys.executable, "-c", script], check=True))


def answer_for_another_trial(payload: str) -> str:
    task = TrialTask.from_json(payload)
    other = TrialTask(spec=task.spec, replicate=task.replicate + 1, attempt=0, corpus_directory=None)
    return record_of_task(other).to_json()


def hang(payload: str) -> str:
    time.sleep(LONG_S)
    return payload


def raise_an_error(payload: str) -> str:
    raise RuntimeError("scripted failure")


def exit_with_7(payload: str) -> str:
    os._exit(7)


def exit_in_order_without_a_record(payload: str) -> str:
    os._exit(0)


def be_killed(payload: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return payload


def fail_in_a_library(payload: str) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return payload


def die_of_an_allocation(payload: str) -> str:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.kill(os.getpid(), signal.SIGABRT)
    return payload


def leave_a_temporary_file_and_end(payload: str) -> str:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        Path(payload).write_text(file.name, encoding="utf-8")
    return payload


def leave_a_temporary_file_and_be_killed(payload: str) -> str:
    return be_killed(leave_a_temporary_file_and_end(payload))


def write_garbage(payload: str) -> str:
    return "no record at all \x00\x01"


def write_a_torn_record(payload: str) -> str:
    # The pipe is the highest descriptor that the child was handed; half a line goes through it, then the end.
    record = record_of_task(TrialTask.from_json(payload)).to_json()
    os.write(_pipe(), record[: len(record) // 2].encode())
    os._exit(0)


def close_the_pipe_and_live_on(payload: str) -> str:
    os.close(_pipe())
    time.sleep(LONG_S)
    return payload


def answer_and_live_on(payload: str) -> str:
    os.write(_pipe(), payload.encode() + b"\n")
    time.sleep(LONG_S)
    return payload


def print_a_lot(payload: str) -> str:
    print("noise on stdout")
    print("noise on stderr", file=sys.stderr)
    os.system("echo noise of a grandchild")
    return payload


def leave_a_grandchild(payload: str) -> str:
    grandchild = subprocess.Popen(["sleep", str(LONG_S)])
    return str(grandchild.pid)


def hang_with_a_grandchild(payload: str) -> str:
    subprocess.Popen(["sleep", payload])
    time.sleep(LONG_S)
    return payload


def fill_memory(payload: str) -> str:
    bytearray(2**60)
    return payload


def run_on_half_a_percent_of_the_card(payload: str) -> str:
    import torch

    from vnbench.trial.entry import run

    torch.cuda.set_per_process_memory_fraction(0.005)
    return run(payload)


def _measured(payload: str, work: Callable[[], object]) -> str:
    start = time.monotonic()
    work()
    record = record_of_task(TrialTask.from_json(payload))
    return replace(record, measured_span_s=(start, time.monotonic())).to_json()


def _folder(payload: str) -> Path:
    folder = TrialTask.from_json(payload).corpus_directory
    assert folder is not None
    return Path(folder)


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def _pipe() -> int:
    import gc
    from multiprocessing.connection import Connection

    (writer,) = (
        item for item in gc.get_objects() if isinstance(item, Connection) and not item.closed and item.writable
    )
    return writer.fileno()


def trace_but_two_examples(payload: str) -> str:
    """Trace steps, until one of two examples gets the process killed."""
    from vnbench.trial.tracing.entry import run_all  # imports torch

    if any(TraceOrder.from_json(text).spec.micro_batch_size == 2 for text in json.loads(payload)):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_all(payload)
