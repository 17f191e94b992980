from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vnbench.batching.sizes import SizeDistribution, draw_sizes
from vnbench.errors import InputError
from vnbench.records.spec.axes import FLAG_FIELDS, LOADER_FIELDS
from vnbench.records.spec.trial_spec import MemorySpec, TrialSpec
from vnbench.request.config import complete
from vnbench.request.reading import read_request
from vnbench.sweep.cells import Cell
from vnbench.sweep.design import Design, make_design, probe_spec
from vnbench.units import PixelRange

CPU: dict[str, Any] = {"device_type": "cpu", "num_cpus": 2}
CANVASES = ((640, 12_800), (480, 3200))
LOGS = SizeDistribution(widths=PixelRange(start=3200, stop=12_790), heights=PixelRange(start=480, stop=640))
CUDA: dict[str, Any] = {"device_type": "cuda", "num_cpus": 16}
SEVEN = {"batch_size": "1,2", "precision": "bf16,fp32", "num_workers": "0,2", "center": "batch-size=1,num-workers=0"}
"""Axes that make seven configurations, as the defaults of a CPU do."""


def design(environment: dict[str, Any] = CPU, num_train: int = 48, **flags: str) -> Design:
    names = {name.replace("_", "-"): text for name, text in flags.items()}
    asked = {"widths": "3200:12800", "design": "one-at-a-time"} | names
    config = complete(read_request(asked, config_path=None), environment=environment)
    return make_design(
        config,
        corpus_id="0" * 12,
        train_sizes_N2=draw_sizes(LOGS, num_train, seed=0),
        worst_case=(640, 12_790),
        canvas_sizes=CANVASES,
    )


def cells_that_differ(made: Design, name: str) -> set[object]:
    center = made.cells[0]
    return {getattr(cell, name) for cell in made.cells} - {getattr(center, name)}


def test_norm_groups_are_an_axis_and_the_usual_ones_leave_the_spec_as_it_was() -> None:
    made = design(CUDA, norm_groups="half-or-16,16", norm_kernel="native,split", design="full")
    found = {(trial.spec.norm_groups, trial.spec.norm_kernel) for trial in made.trials}
    assert found == {(groups, kernel) for groups in ("half-or-16", "16") for kernel in ("native", "split")}
    told = {str(cell).partition("workers")[2] for cell in made.cells}
    assert told == {"", ", norm-groups 16", ", norm-kernel split", ", norm-groups 16, norm-kernel split"}
    plain = [trial.spec for trial in design(CUDA).trials]
    assert not any({"norm_groups", "norm_kernel"} & set(spec.canonical()) for spec in plain)


def test_the_cpu_default_is_seven_configurations_one_lever_at_a_time() -> None:
    made = design()
    assert made.cells[0] == Cell(
        batch_size=1,
        micro_batch_size=None,
        precision="bf16",
        norm_precision="fp32",
        checkpointing="none",
        sampler="bucketed",
        num_workers=0,
    )
    assert len(made.cells) == 7
    assert cells_that_differ(made, "precision") == {"fp32"}
    assert cells_that_differ(made, "norm_precision") == {"input"}


def test_a_centre_with_a_norm_in_input_precision_leaves_no_precision_out() -> None:
    made = design(norm_precision="input,fp32")
    assert {(cell.precision, cell.norm_precision) for cell in made.cells} == {
        ("bf16", "input"),
        ("bf16", "fp32"),
        ("fp32", "fp32"),
    }


def test_samplers_are_compared_where_a_pass_holds_several_examples() -> None:
    (random_cell,) = (cell for cell in design().cells if cell.sampler == "random")
    assert random_cell.batch_size == 2


def test_the_cuda_default_covers_every_axis() -> None:
    made = design(CUDA)
    assert {cell.batch_size for cell in made.cells} == {1, 2, 4, 8, 16}
    assert {cell.precision for cell in made.cells} == {"fp32", "tf32", "bf16", "fp16"}
    assert {cell.num_workers for cell in made.cells} == {0, 2, 4, 8}
    assert len(made.cells) == 1 + 4 + 3 + 1 + 1 + 1 + 3


def test_full_is_the_product_without_what_means_the_same() -> None:
    made = design(design="full", num_workers="0")
    # 2 batches x (bf16 with two norms + fp32 with one) x 2 checkpointings x 2 samplers
    assert len(made.cells) == 2 * 3 * 2 * 2
    assert any("norm's input is already fp32" in line for line in made.left_out)


def test_a_micro_batch_that_does_not_divide_is_left_out_by_name() -> None:
    made = design(design="full", batch_size="4,6", micro_batch_size="same,4,2")
    pairs = {(cell.batch_size, cell.examples_per_pass) for cell in made.cells}
    assert pairs == {(4, 4), (4, 2), (6, 6), (6, 2)}
    assert any("a micro-batch of 4 does not divide a batch of 6" in line for line in made.left_out)


def test_tf32_is_left_out_on_the_cpu() -> None:
    assert any("TF32" in line for line in design(precision="fp32,tf32").left_out)
    with pytest.raises(InputError, match="no combination"):
        design(precision="tf32")


@pytest.mark.parametrize(
    ("device", "options", "reason"),
    [
        (CPU, {}, "cuda-graphs has an effect only on CUDA"),
        (CUDA, {"compile": "step"}, "a compiled pass is not captured as a CUDA graph"),
        (
            CUDA,
            {"kind": "training"},
            "a CUDA graph serves one canvas: limit the number of canvases in training with --shapes",
        ),
        (CUDA, {"shapes": "16", "shape_visits": "cold"}, "captured before timing, so no shape is cold"),
    ],
)
def test_cuda_graphs_are_left_out_by_name_where_they_cannot_be(
    device: dict[str, str], options: dict[str, str], reason: str
) -> None:
    made = design(device, **({"kind": "compute,training", "cuda_graphs": "off,on"} | options))
    assert {cell.cuda_graphs for cell in made.cells} == {"off"}
    assert any(reason in line for line in made.left_out)
    with pytest.raises(InputError, match=f"no combination(.|\n)*{reason}"):
        design(device, **({"kind": "compute,training", "cuda_graphs": "on"} | options))


@pytest.mark.parametrize("options", [{"kind": "compute"}, {"kind": "memory,training", "shapes": "16"}])
def test_cuda_graphs_are_an_axis_of_cuda(options: dict[str, str]) -> None:
    made = design(CUDA, cuda_graphs="off,on", **options)
    assert {trial.spec.cuda_graphs for trial in made.trials} == {"off", "on"}


def test_each_family_has_one_memory_trial_and_they_come_first_in_ascending_order() -> None:
    made = design(CUDA)
    kinds = [trial.spec.kind for trial in made.trials]
    num_memory = kinds.count("memory")
    assert kinds == ["memory"] * num_memory + ["training"] * (len(kinds) - num_memory)
    memory = [trial.spec for trial in made.trials[:num_memory]]
    training = [trial.spec for trial in made.trials[num_memory:]]
    assert sorted(spec.family for spec in memory) == sorted({spec.family for spec in training})
    sizes: dict[str, list[int]] = {}
    for spec in memory:
        sizes.setdefault(spec.lever_key, []).append(spec.micro_batch_size)
    assert all(order == sorted(order) for order in sizes.values())
    assert {(spec.worst_case_height, spec.worst_case_width) for spec in memory} == {(640, 12_790)}


def test_the_order_is_random_and_seeded() -> None:
    first, again, other = design(CUDA), design(CUDA), design(CUDA, seed="1")
    assert first.trials == again.trials
    order = [trial.spec.num_workers for trial in first.trials]
    assert order != [trial.spec.num_workers for trial in other.trials]


def test_replicates_are_interleaved() -> None:
    timed = [trial for trial in design(replicates="3").trials if trial.spec.kind == "training"]
    assert len(timed) == 21
    others = [trial.replicate for trial in timed if trial.spec != timed[0].spec]
    assert others == [0] * 6 + [1] * 6 + [2] * 6


def reference_places(made: Design) -> list[int]:
    timed = [trial for trial in made.trials if trial.spec.kind != "memory"]
    center = made.cells[0]
    places = [
        i
        for i, trial in enumerate(timed)
        if (trial.spec.batch_size, trial.spec.precision, trial.spec.sampler, trial.spec.num_workers)
        == (center.batch_size, center.precision, center.sampler, center.num_workers)
        and (trial.spec.norm_precision, trial.spec.checkpointing) == (center.norm_precision, center.checkpointing)
    ]
    assert [timed[place].replicate for place in places] == list(range(len(places)))
    return places


def test_the_reference_trial_runs_first_in_the_middle_and_last() -> None:
    assert reference_places(design(CUDA, **SEVEN)) == [0, 4, 8]
    assert reference_places(design(CUDA, **SEVEN, reference_runs="5")) == [0, 2, 5, 7, 10]
    assert reference_places(design(CUDA, **SEVEN, replicates="4")) == [0, 9, 18, 27]


def test_under_a_budget_every_configuration_runs_once_before_the_reference_is_repeated() -> None:
    assert reference_places(design()) == [0, 7, 8]
    assert reference_places(design(reference_runs="5")) == [0, 7, 8, 9, 10]
    made = design(replicates="3")
    assert reference_places(made) == [0, 7, 14]
    timed = [trial for trial in made.trials if trial.spec.kind == "training"]
    assert [trial.replicate for trial in timed] == [0] * 7 + [1] * 7 + [2] * 7


def test_under_a_budget_axes_come_in_the_order_of_what_people_ask() -> None:
    center, *others = design().cells
    assert [_varied(center, cell) for cell in others] == [
        {"precision"},
        {"checkpointing"},
        {"batch_size"},
        {"batch_size", "sampler"},
        {"num_workers"},
        {"norm_precision"},
    ]
    center, *others = design(memory_format="contiguous,channels-last", sampler="bucketed,random").cells
    assert [_varied(center, cell) for cell in others][:4] == [
        {"memory_format"},
        {"batch_size"},
        {"batch_size", "sampler"},
        {"precision"},
    ], "what was asked for comes first"


def _varied(center: Cell, cell: Cell) -> set[str]:
    return {name for name, value in dataclasses.asdict(cell).items() if value != getattr(center, name)}


def test_a_short_sweep_repeats_its_reference_only_when_asked() -> None:
    short = {"batch_size": "1", "precision": "fp32", "num_workers": "0", "checkpointing": "none", "sampler": "random"}
    assert reference_places(design(**short)) == [0]
    assert reference_places(design(**short, reference_runs="3")) == [0, 1, 2]


def test_one_run_of_the_reference_takes_its_place_in_the_random_order() -> None:
    places = [reference_places(design(CUDA, **SEVEN, reference_runs="1", seed=str(seed))) for seed in range(8)]
    assert all(len(place) == 1 for place in places)
    assert len({place[0] for place in places}) > 1


def test_compute_trials_are_one_for_each_family_on_the_given_canvases() -> None:
    made = design(CUDA, kind="memory,compute", micro_batch_size="same,1")
    compute = [trial.spec for trial in made.trials if trial.spec.kind == "compute"]
    assert {spec.canvas_sizes for spec in compute} == {CANVASES}
    assert all(spec.batch_size == spec.micro_batch_size for spec in compute)
    families = {trial.spec.family for trial in made.trials if trial.spec.kind == "memory"}
    assert {spec.family for spec in compute} == families
    assert len({spec.spec_id for spec in compute}) == len(families)


def test_only_the_asked_kinds_are_planned() -> None:
    for kinds in (("training",), ("compute",), ("memory",), ("compute", "training")):
        made = design(kind=",".join(kinds))
        assert {trial.spec.kind for trial in made.trials} == set(kinds)


def test_switches_of_torch_are_axes_and_off_unless_asked_for() -> None:
    assert all(not cell.changed(FLAG_FIELDS) for cell in design(CUDA).cells)
    made = design(CUDA, memory_format="contiguous,channels-last", cudnn_benchmark="off,on", optimizer="fused,foreach")
    changed = [changed for cell in made.cells if (changed := cell.changed(FLAG_FIELDS))]
    assert changed == [{"memory_format": "channels-last"}, {"cudnn_benchmark": "on"}, {"optimizer": "foreach"}]
    specs = [trial.spec for trial in made.trials if trial.spec.memory_format == "channels-last"]
    assert {spec.kind for spec in specs} == {"memory", "training"}
    assert all("memory-format-channels-last" in spec.family for spec in specs)


def test_compiled_code_has_a_memory_trial_on_cuda_alone() -> None:
    for environment, expected in ((CPU, {"none"}), (CUDA, {"none", "default"})):
        trials = design(environment, compile="none,default").trials
        assert {trial.spec.compile for trial in trials if trial.spec.kind == "memory"} == expected
        assert {trial.spec.compile for trial in trials if trial.spec.kind == "training"} == {"none", "default"}


def test_memory_is_traced_where_that_is_asked_for() -> None:
    for asked, flags in (("step", {}), ("trace", {"memory_by": "trace"})):
        trials = design(soak="none,largest-first", **flags).trials
        assert {trial.spec.memory_by for trial in trials if isinstance(trial.spec, MemorySpec)} == {asked}


def test_a_trace_is_refused_on_cuda() -> None:
    with pytest.raises(InputError, match=r"--memory-by trace: a trace counts memory as a CPU.*--memory-by step"):
        design(CUDA, memory_by="trace")


def test_switches_of_cuda_are_left_out_on_the_cpu() -> None:
    made = design(allocator="native,expandable-segments", cudnn_benchmark="off,on")
    assert sum("has an effect only on CUDA" in line for line in made.left_out) == 2


def test_no_spec_stands_twice() -> None:
    made = design(design="full", micro_batch_size="same,1,2", batch_size="1,2,4")
    keys = [(trial.spec.spec_id, trial.replicate) for trial in made.trials]
    assert len(keys) == len(set(keys))


def test_a_budget_is_that_of_a_worst_case_micro_batch() -> None:
    made = design(sampler="pixel-budget,random", batch_size="4", micro_batch_size="2", num_workers="0")
    training = [trial.spec for trial in made.trials if trial.spec.kind == "training"]
    # The worst case of 640 x 12,790 px is padded to 640 x 12,800.
    assert {spec.sampler: spec.pixel_budget for spec in training} == {"pixel-budget": 2 * 640 * 12_800, "random": None}


def test_shapes_are_an_axis_of_training_and_no_matter_of_memory() -> None:
    made = design(shapes="any,24", batch_size="4")
    assert {trial.spec.shapes for trial in made.trials if trial.spec.kind == "training"} == {None, 24}
    assert {trial.spec.shapes for trial in made.trials if trial.spec.kind == "memory"} == {None}


@pytest.mark.parametrize(("environment", "warm"), [(CPU, "warm"), (CUDA, "auto")])
def test_cold_shapes_are_a_training_trial_of_one_epoch(environment: dict[str, Any], warm: str) -> None:
    made = design(environment, shape_visits="auto,warm,cold", max_epochs="3", kind="memory,compute,training")
    centre = [
        trial.spec for trial in made.trials if trial.spec.checkpointing == "none" and _is_of_centre(trial.spec, made)
    ]
    training = {(spec.shape_visits, spec.max_epochs) for spec in centre if spec.kind == "training"}
    assert training == {("auto", 3), (warm, 3), ("cold", 1)}, "one name for one thing"
    assert {spec.shape_visits for spec in centre if spec.kind != "training"} == {"auto"}


def _is_of_centre(spec: TrialSpec, made: Design) -> bool:
    centre = made.cells[0]
    return (spec.micro_batch_size, spec.precision) == (centre.examples_per_pass, centre.precision)


@pytest.mark.parametrize("flags", [{"kind": "memory,compute"}, {"design": "factored"}])
def test_shapes_are_visited_where_there_is_training_alone(flags: dict[str, str]) -> None:
    made = design(shape_visits="auto,cold", **flags)
    assert {cell.shape_visits for cell in made.cells} == {"auto"}
    assert any("only training trials visit shapes" in line for line in made.left_out)


@pytest.mark.parametrize("micro_batch_size", ["1", "same"])
def test_step_sorted_is_left_out_where_it_is_random_itself(micro_batch_size: str) -> None:
    made = design(sampler="random,step-sorted", batch_size="4", micro_batch_size=micro_batch_size)
    assert {cell.sampler for cell in made.cells} == {"random"}
    assert any("step-sorted equals random" in line for line in made.left_out)


def test_a_batch_above_what_a_trial_measures_is_left_out_by_name() -> None:
    made = design(batch_size="1,2,8", subset="4")
    assert {cell.batch_size for cell in made.cells} == {1, 2}
    assert any("measures only 4 training examples" in line for line in made.left_out)
    assert {cell.batch_size for cell in design(batch_size="1,2,8", num_train=3).cells} == {1, 2}
    assert {cell.batch_size for cell in design(batch_size="1,8", subset="4", kind="memory,compute").cells} == {1, 8}
    with pytest.raises(InputError, match="measures only 4 training examples"):
        design(batch_size="8", subset="4")


def test_a_soak_is_a_memory_trial_of_its_own_for_each_order_and_sampler() -> None:
    made = design(
        CUDA, soak="none,sampler-order,largest-first", sampler="random,bucketed", batch_size="4", num_train=200
    )
    soaked = [trial.spec for trial in made.trials if isinstance(trial.spec, MemorySpec) and trial.spec.soak is not None]
    centre = [spec for spec in soaked if spec.precision == "bf16" and spec.norm_precision == "fp32"]
    assert {(spec.soak, spec.sampler) for spec in centre} == {
        (order, sampler) for order in ("sampler-order", "largest-first") for sampler in ("random", "bucketed")
    }
    for spec in soaked:
        assert spec.soak_passes is not None
        assert len(spec.soak_passes) == 48
        pixels = [count * height * width for count, height, width in spec.soak_passes]
        assert (pixels == sorted(pixels, reverse=True)) == (spec.soak == "largest-first")
        assert {count for count, _, _ in spec.soak_passes} == {4}
    assert any(isinstance(trial.spec, MemorySpec) and trial.spec.soak is None for trial in made.trials)


def test_there_is_no_soak_of_fewer_images_than_a_pass() -> None:
    def soaks(made: Design) -> set[object]:
        return {trial.spec.soak for trial in made.trials if isinstance(trial.spec, MemorySpec)}

    assert soaks(design(soak="none,largest-first")) == {None, "largest-first"}
    made = design(CUDA, soak="none,largest-first", batch_size="8", num_train=5, kind="memory")
    assert soaks(made) == {None}


def test_a_loader_trial_is_shared_by_cells_that_differ_in_the_network_alone() -> None:
    made = design(kind="loader", num_workers="0,2", reference_runs="1")
    specs = [trial.spec for trial in made.trials]
    assert {spec.kind for spec in specs} == {"loader"}
    assert len(set(specs)) == len(specs) == 4, "batch 1 with 0 and 2 workers, batch 2, and its random sampler"
    assert {spec.precision for spec in specs} == {"fp32"}


@pytest.mark.parametrize("name", ["worker_kind", "prefetch_factor", "persistent_workers"])
def test_what_only_workers_have_is_varied_where_there_are_workers(name: str) -> None:
    values = {"worker_kind": "processes,threads", "prefetch_factor": "2,4", "persistent_workers": "on,off"}
    made = design(kind="loader", num_workers="0,2,4", **{name: values[name]})
    (changed,) = cells_that_differ(made, name)
    assert [cell.num_workers for cell in made.cells if getattr(cell, name) == changed] == [2]
    assert not design(kind="loader", num_workers="0", **{name: values[name]}).cells[0].changed(LOADER_FIELDS)


def test_a_cache_has_its_limit_in_the_spec() -> None:
    made = design(kind="loader,training", cache="none,memory", cache_limit="1GiB")
    assert {(trial.spec.cache, trial.spec.cache_limit_bytes) for trial in made.trials} == {
        ("none", None),
        ("memory", 2**30),
    }


def test_switches_of_the_loader_that_say_nothing_are_left_out() -> None:
    on_cpu = design(pin_memory="on,off")
    assert any("only copies to a GPU go through pinned memory" in line for line in on_cpu.left_out)
    threads = design(num_workers="2", worker_kind="threads", persistent_workers="on,off")
    assert any("threads cost nothing to start" in line for line in threads.left_out)


def test_workers_whose_batches_have_no_room_in_shared_memory_are_left_out_by_name() -> None:
    def made(free: int | None, **flags: str) -> Design:
        names = {name.replace("_", "-"): text for name, text in flags.items()}
        config = complete(read_request({"widths": "3200:12800"} | names, config_path=None), environment=CUDA)
        return make_design(
            config,
            corpus_id="0" * 12,
            train_sizes_N2=draw_sizes(LOGS, 200, seed=0),
            worst_case=(640, 12_790),
            canvas_sizes=CANVASES,
            shared_memory_bytes=free,
        )

    docker = made(64 * 2**20, kind="training", num_workers="0,8")
    assert {trial.spec.num_workers for trial in docker.trials} == {0}
    (line, *_) = [line for line in docker.left_out if "8 workers" in line]
    assert "/dev/shm, which has 64.0 MiB free" in line
    assert "--shm-size" in line
    for roomy in (made(None, kind="training", num_workers="0,8"), made(2**40, kind="training", num_workers="0,8")):
        assert {trial.spec.num_workers for trial in roomy.trials} == {0, 8}
    threads = made(1, kind="training", num_workers="8", worker_kind="threads")
    assert {trial.spec.num_workers for trial in threads.trials} == {8}
    with pytest.raises(InputError, match=r"no trial is left to measure; .*64\.0 MiB free"):
        made(64 * 2**20, kind="training", num_workers="8")


def test_memory_trials_alone_have_no_reference_to_repeat() -> None:
    made = design(kind="memory", replicates="3")
    assert {trial.spec.kind for trial in made.trials} == {"memory"}
    assert {trial.replicate for trial in made.trials} == {0}


def test_samplers_are_not_compared_at_a_batch_of_one_image() -> None:
    made = design(batch_size="1", sampler="bucketed,random")
    assert {cell.sampler for cell in made.cells} == {"bucketed"}
    assert any("all samplers make the same passes of one image" in line for line in made.left_out)
    assert {cell.sampler for cell in design(batch_size="1", sampler="random").cells} == {"random"}


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vnbench.request.frameworks.version", lambda name: "2.6.6")


@pytest.mark.usefixtures("lightning")
def test_loops_are_an_axis_and_features_are_varied_where_a_trainer_has_them() -> None:
    made = design(CUDA, kind="compute", loop="own,lightning,fabric", loop_features="barebones,log")
    assert cells_that_differ(made, "loop") == {"lightning", "fabric"}
    assert {(cell.loop, cell.loop_features) for cell in made.cells} == {
        ("own", "barebones"),
        ("lightning", "barebones"),
        ("fabric", "barebones"),
        ("lightning", "log"),
    }
    assert not any({"loop", "loop_features"} & set(trial.spec.canonical()) for trial in design(CUDA).trials)


@pytest.mark.usefixtures("lightning")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loop": "fabric", "loop_features": "log"}, "loop-features are those of Lightning's Trainer"),
        ({"loop": "lightning", "compile": "step"}, "a framework calls the network itself"),
        ({"loop": "fabric", "cuda_graphs": "on"}, "a framework calls the network itself"),
        ({"loop": "lightning-automatic", "sampler": "pixel-budget"}, "updates after so many passes"),
    ],
)
def test_what_a_framework_cannot_run_is_left_out_by_name(options: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=f"no combination(.|\n)*{reason}"):
        design(CUDA, kind="compute", batch_size="4", **options)


@pytest.mark.usefixtures("lightning")
def test_loaders_and_probes_have_no_loop() -> None:
    made = design(CUDA, kind="memory,loader,training", loop="lightning")
    assert {(trial.spec.kind, trial.spec.loop) for trial in made.trials} == {
        ("memory", "lightning"),
        ("loader", "own"),
        ("training", "lightning"),
    }
    config = complete(read_request({"widths": "64:128", "loop": "lightning"}, config_path=None), environment=CUDA)
    assert probe_spec(made.cells[0], config, CANVASES, max_measuring_s=1.0, precisions=("fp32",)).loop == "own"


def test_a_benchmark_of_algorithms_and_determinism_exclude_each_other() -> None:
    made = design(CUDA, kind="compute", cudnn_benchmark="off,on", deterministic="off,on,on-unfilled", design="full")
    found = {(cell.cudnn_benchmark, cell.deterministic) for cell in made.cells}
    assert found == {("off", "off"), ("on", "off"), ("off", "on"), ("off", "on-unfilled")}
    assert any("nothing is deterministic" in line for line in made.left_out)
