import pytest
import record_factory as factory

from vnbench.output.words.levers import centre_of, describe, levers_of, varying, worth_naming
from vnbench.records.spec.axes import FLAG_FIELDS
from vnbench.records.spec.trial_spec import LEVERS, TrialSpec

DEFAULTS = {name: TrialSpec.__dataclass_fields__[name].default for name in FLAG_FIELDS}


def test_every_switch_of_a_spec_is_a_lever_with_the_same_default() -> None:
    assert {name: LEVERS[name].quiet for name in FLAG_FIELDS} == DEFAULTS


def test_switches_are_worth_naming_only_where_a_trial_has_another_than_the_default() -> None:
    plain, compiled = factory.training_spec(), factory.training_spec(compile="default")
    assert not {*worth_naming([plain])} & {*FLAG_FIELDS}
    assert {*worth_naming([plain, compiled])} & {*FLAG_FIELDS} == {"compile"}
    assert {*worth_naming([compiled])} & {*FLAG_FIELDS} == {"compile"}
    assert varying([plain, compiled]) == ("compile",)
    assert varying([compiled]) == ()


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"memory_format": "channels-last"}, "channels-last memory"),
        ({"compile": "default"}, "compile default"),
        ({"compile": "step"}, "compile step"),
        ({"compile": "none"}, "not compiled"),
        ({"cudnn_benchmark": "on"}, "cudnn-benchmark on"),
        ({"allocator": "expandable-segments"}, "expandable-segments allocator"),
        ({"optimizer": "for-loop"}, "for-loop optimizer"),
        ({"padding": "exact"}, "exact padding"),
        ({"norm_kernel": "split"}, "split norm kernel"),
        ({"cuda_graphs": "on"}, "CUDA graphs on"),
    ],
)
def test_a_switch_has_a_phrase_that_stands_on_its_own(changes, phrase) -> None:
    (name,) = changes
    assert describe(factory.training_spec(**changes), names=[name]) == phrase


def test_a_compute_trial_is_named_by_its_micro_batch_and_without_levers_that_it_lacks() -> None:
    spec = factory.compute_spec(micro_batch_size=4, precision="bf16")
    names = ["batch_size", "precision", "sampler", "num_workers", "corpus_id"]
    assert describe(spec, names=names) == "micro-batch 4, bf16"
    assert describe(spec, names=["precision"]) == "bf16"


def test_the_centre_of_equally_common_switches_is_the_default() -> None:
    specs = [factory.training_spec(**changes) for changes in ({"optimizer": "foreach"}, {}, {"compile": "default"})]
    centre = centre_of(specs)
    assert {name: centre[name] for name in FLAG_FIELDS} == DEFAULTS
    two = centre_of([factory.training_spec(memory_format="channels-last"), factory.training_spec()])
    assert two["memory_format"] == "contiguous"
    assert levers_of(specs[0])["optimizer"] == "foreach"


def test_what_masks_mean_is_named_where_trials_differ_in_it() -> None:
    plain, mapped, many = (
        factory.training_spec(**changes)
        for changes in ({}, {"mask_values": (0, 100, 255), "ignore_value": 7}, {"classes": 9})
    )
    assert not {"classes", "mask_values", "ignore_value"} & set(varying([plain, factory.training_spec(seed=1)]))
    assert varying([plain, mapped]) == ("mask_values", "ignore_value")
    assert describe(mapped, names=["mask_values", "ignore_value"]) == "mask values 0,100,255, ignored value 7"
    assert "classes" not in worth_naming([plain, mapped])
    assert "classes" in worth_naming([plain, many])
    assert plain.family != many.family
    assert plain.family == mapped.family
