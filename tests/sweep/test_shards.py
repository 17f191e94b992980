from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.errors import InputError
from vnbench.records.spec.trial_spec import TrialSpec
from vnbench.request.config import SweepConfig, complete
from vnbench.request.reading import read_request
from vnbench.request.shard import Shard, parse_shard
from vnbench.sweep.design import Design, make_design, training_spec
from vnbench.units import PixelRange

LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12_790), heights=PixelRange(start=480, stop=640))
GPU: dict[str, Any] = {"device_type": "cuda", "num_cpus": 16}


ASKED = {
    "design": "full",
    "kind": "memory,training,compute,loader",
    "batch_size": "1,2",
    "precision": "bf16,fp32",
    "sampler": "bucketed",
    "num_workers": "0,4",
    "center": "batch-size=1,num-workers=0",
}
CORPUS_ID = "0" * 12
WORST_CASE = (640, 12_790)


def config(**flags: str) -> SweepConfig:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    return complete(read_request({"widths": "3200:12800"} | names, config_path=None), environment=GPU)


def design(**flags: str) -> Design:
    return make_design(
        config(**ASKED | flags),
        corpus_id=CORPUS_ID,
        train_sizes_N2=draw_sizes(LOGS, 48, seed=0),
        worst_case=WORST_CASE,
        canvas_sizes=((640, 12_800), (480, 3200)),
    )


def reference() -> TrialSpec:
    made = config(**ASKED)
    return training_spec(design().cells[0], made, CORPUS_ID, WORST_CASE)


def keys(made: Design) -> list[tuple[TrialSpec, int]]:
    return [(trial.spec, trial.replicate) for trial in made.trials]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("flags", [{}, {"replicates": "2"}, {"reference_runs": "1"}, {"time_budget": "9h"}])
def test_shares_hold_every_trial_once_and_each_its_own_processes_of_the_reference(
    count: int, flags: dict[str, str]
) -> None:
    whole = design(**flags)
    centre = reference()
    shares = [design(shard=f"{number}/{count}", **flags) for number in range(1, count + 1)]
    joint = [key for share in shares for key in keys(share)]
    assert max(Counter(joint).values()) == 1, "no doubles"
    assert {key for key in joint if key[0] != centre} == {key for key in keys(whole) if key[0] != centre}
    runs = sum(spec == centre for spec, _ in keys(whole))
    for number, share in enumerate(shares):
        own = sorted(replicate for spec, replicate in keys(share) if spec == centre)
        assert own == list(range(number * runs, (number + 1) * runs)), "counted on from the shares before"


def test_a_family_is_in_one_share_so_that_a_larger_member_is_skipped_where_a_smaller_one_ran_out() -> None:
    shares = [design(shard=f"{number}/3") for number in (1, 2, 3)]
    centre = reference()
    places: dict[str, set[int]] = {}
    for place, share in enumerate(shares):
        for trial in share.trials:
            if trial.spec != centre and trial.spec.kind != "loader":
                places.setdefault(trial.spec.lever_key, set()).add(place)
    assert len(places) >= 3
    assert all(len(found) == 1 for found in places.values())


def test_shares_are_about_equally_large() -> None:
    sizes = [len(design(shard=f"{number}/4").trials) for number in (1, 2, 3, 4)]
    assert max(sizes) - min(sizes) <= max(Counter(trial.spec.lever_key for trial in design().trials).values())


def test_the_heaviest_groups_go_to_the_least_loaded_shares() -> None:
    weights = {"a": 5, "b": 4, "c": 3, "d": 3, "e": 1}
    shares = [Shard(number=number, count=2).own(weights) for number in (1, 2)]
    assert shares == [{"a", "d"}, {"b", "c", "e"}]


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/10001", ""])
def test_what_is_no_share_is_told(text: str) -> None:
    with pytest.raises(InputError, match=r"a share is I/N"):
        parse_shard(text, "--shard")


def test_of_more_shares_than_groups_the_last_have_the_reference_alone() -> None:
    shares = [design(shard=f"{number}/40") for number in (1, 40)]
    assert len({trial.spec for trial in shares[0].trials}) > 1
    assert {trial.spec for trial in shares[1].trials} == {reference()}
    assert any("no group of trials is left for it" in line for line in shares[1].left_out)
    assert not any("no group of trials is left for it" in line for line in shares[0].left_out)


def test_sweeps_that_decide_by_all_of_their_trials_are_not_cut() -> None:
    with pytest.raises(InputError, match=r"--shard 1/2: --design factored decides by all"):
        config(shard="1/2", design="factored")
    with pytest.raises(InputError, match=r"--find-max-batch decides by all"):
        config(shard="1/2", find_max_batch="yes")


def test_a_gpu_takes_a_design_that_can_be_cut() -> None:
    gpu = config(shard="2/3")
    assert (gpu.design, gpu.shard) == ("one-at-a-time", Shard(number=2, count=3))
    cpu = complete(
        read_request({"widths": "3200:12800", "shard": "2/3"}, config_path=None),
        environment={"device_type": "cpu", "num_cpus": 2},
    )
    assert not cpu.chooses_size, "shares of one sweep have the same examples"
    assert not cpu.chooses_precision
