from __future__ import annotations

import os

import pytest

from vnbench.loading.worker_watch import WorkerWatch


def test_a_worker_is_at_an_example_while_it_works_on_it() -> None:
    watch = WorkerWatch(2)
    with watch.at(5, worker=1):
        assert watch.examples_of("") == (5,)
    assert watch.examples_of("") == ()


def test_what_an_exception_interrupted_stays_noted() -> None:
    watch = WorkerWatch(1)
    with pytest.raises(ValueError, match="broken"), watch.at(3, worker=0):
        raise ValueError("broken")
    assert watch.examples_of("") == (3,)


def test_a_message_that_names_processes_is_about_their_examples() -> None:
    watch = WorkerWatch(3)
    pids = []
    for worker, index in enumerate((7, 8, 9)):
        pid = os.fork()
        if pid == 0:
            watch.at(index, worker=worker).__enter__()
            os._exit(0)
        os.waitpid(pid, 0)
        pids.append(pid)
    assert watch.examples_of(f"DataLoader worker (pid {pids[1]}) is killed by signal: Killed. ") == (8,)
    assert watch.examples_of(f"DataLoader worker (pid(s) {pids[0]}, {pids[2]}) exited unexpectedly") == (7, 9)
    assert watch.examples_of("DataLoader timed out after 5 seconds") == (7, 8, 9)
    assert watch.examples_of("DataLoader worker (pid 1) is killed") == ()
