from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vnbench.errors import InputError
from vnbench.request.config import FACTORED_KINDS, SweepConfig, complete
from vnbench.request.options import OPTIONS
from vnbench.request.reading import read_request
from vnbench.request.results_folder import default_out

CPU: dict[str, Any] = {"device_type": "cpu", "device_name": "Some CPU @ 2.0GHz", "num_cpus": 2}
CUDA: dict[str, Any] = {"device_type": "cuda", "device_name": "NVIDIA H200", "num_cpus": 16}


def config(environment: dict[str, Any] = CPU, **flags: str) -> SweepConfig:
    names = {name.replace("_", "-"): text for name, text in ({"widths": "3200:12800"} | flags).items()}
    return complete(read_request(names, config_path=None), environment=environment)


def test_the_cpu_takes_the_small_network_and_a_time_budget() -> None:
    asked = config()
    assert (asked.model, asked.design, asked.axes["batch_size"]) == ("veernet-tiny", "one-at-a-time", (1, 2))
    assert asked.time_budget_s is not None
    assert asked.time_budget_s < 300


def test_cuda_takes_the_full_network_and_the_published_batches() -> None:
    asked = config(CUDA)
    assert (asked.model, asked.axes["batch_size"]) == ("veernet", (1, 2, 4, 8, 16))
    assert asked.time_budget_s is None
    assert asked.center == {"batch_size": 4, "num_workers": 4}


def test_a_gpu_takes_the_factored_design_unless_it_has_no_use_for_what_is_asked() -> None:
    asked = config(CUDA)
    assert (asked.design, asked.kinds) == ("factored", FACTORED_KINDS)
    assert config(CUDA, design="one-at-a-time").kinds == ("memory", "training")
    for flags in ({"kind": "memory,training"}, {"shape_visits": "warm,cold"}):
        assert config(CUDA, **flags).design == "one-at-a-time"
        assert config(CUDA, **flags, design="full").design == "full"
    assert config().design == "one-at-a-time"


def test_a_centre_default_that_is_not_on_its_axis_is_left_out() -> None:
    assert config(CUDA, batch_size="1,2").center == {"num_workers": 4}


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('widths = "1000:2000"\nbatch-size = [2, 4]\nprecision = "fp32"\nseed = 3\n')
    asked = complete(read_request({"seed": "5"}, config_path=path), environment=CPU)
    assert (asked.axes["batch_size"], asked.axes["precision"], asked.seed) == ((2, 4), ("fp32",), 5)
    assert str(asked.widths) == "1000:2000"
    assert asked.model == "veernet-tiny"


def test_every_option_can_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    texts = {
        "widths": "100:200",
        "heights": "64:96",
        "size-law": "log-uniform",
        "task": "binary",
        "classes": "2",
        "batch-size": "2",
        "micro-batch-size": "1",
        "precision": "fp32",
        "norm-precision": "fp32",
        "checkpointing": "stages",
        "sampler": "random",
        "shapes": "24,any",
        "shape-visits": "warm,cold",
        "num-workers": "0",
        "model": "veernet-tiny",
        "norm-groups": "16",
        "device": "cpu",
        "design": "full",
        "shard": "1/2",
        "center": "batch-size=2",
        "examples": "10",
        "subset": "4",
        "warm-up-steps": "1",
        "replicates": "2",
        "reference-runs": "3",
        "max-attempts": "2",
        "kind": "memory,compute,training",
        "compute-sizes": "9",
        "noise-target": "1%",
        "min-steps": "2",
        "max-steps": "9",
        "max-epochs": "2",
        "measuring-time": "9s",
        "memory-format": "channels-last",
        "compile": "default",
        "cudnn-benchmark": "on",
        "allocator": "expandable-segments",
        "optimizer": "foreach",
        "padding": "exact",
        "norm-kernel": "split",
        "deterministic": "on",
        "loop": "own",
        "loop-features": "barebones",
        "cuda-graphs": "off",
        "worker-kind": "threads",
        "prefetch-factor": "4",
        "pin-memory": "off",
        "persistent-workers": "off",
        "cache": "memory,disk",
        "cache-limit": "8GiB",
        "image-format": "png,tiff-zstd",
        "worker-timeout": "1m",
        "appetite": "30",
        "price-per-hour": "2.5",
        "soak": "none,largest-first",
        "snapshot-mode": "async",
        "snapshot-target": "/tmp",
        "memory-by": "step",
        "memory-limit": "8GiB",
        "find-max-batch": "no",
        "no-plots": "yes",
        "seed": "1",
        "time-budget": "1m",
        "trial-timeout": "1m",
        "retry": "crashed,timeout",
        "out": "r.jsonl",
    }
    path.write_text("".join(f'{name} = "{text}"\n' for name, text in texts.items()))
    assert set(OPTIONS) - set(texts) == {"corpus", "images", "sizes", "mask-values", "ignore-value"}
    assert complete(read_request({}, config_path=path), environment=CPU).retry == ("crashed", "timeout")


def test_the_subset_fills_the_largest_batch() -> None:
    assert config(batch_size="1,32").subset_size == 32
    assert config(batch_size="1,32", subset="8").subset_size == 8


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("batch-size", "0"),
        ("batch-size", "1.5"),
        ("batch-size", "5000"),
        ("precision", "fp8"),
        ("sampler", "shuffled"),
        ("model", "unet"),
        ("design", "random"),
        ("device", "tpu"),
        ("num-workers", "-1"),
        ("prefetch-factor", "0"),
        ("cache", "swap"),
        ("cache-limit", "0"),
        ("appetite", "-3"),
        ("norm-groups", "half"),
        ("center", "batch-size"),
        ("retry", "failed"),
        ("time-budget", "soon"),
        ("micro-batch-size", "all"),
        ("noise-target", "0"),
        ("noise-target", "120%"),
        ("kind", "loading"),
        ("max-attempts", "0"),
        ("min-steps", "1"),
        ("price-per-hour", "-1"),
        ("compile", "max"),
    ],
)
def test_a_wrong_value_names_its_option_and_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(InputError, match=rf"^--{name} .*; "):
        read_request({"widths": "1:2", name: text}, config_path=None)


def test_a_centre_that_is_not_on_its_axis_is_refused() -> None:
    with pytest.raises(InputError, match="--center batch-size=64: --batch-size does not include it"):
        config(center="batch-size=64")


def test_sizes_are_asked_for_once() -> None:
    with pytest.raises(InputError, match="--widths: the sizes of the images are needed"):
        read_request({}, config_path=None)
    with pytest.raises(InputError, match=r"--sizes s\.csv: the file names the sizes already"):
        read_request({"widths": "1:2", "sizes": "s.csv"}, config_path=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("widths = ", "this is not TOML"),
        ('width = "1:2"', "no option has this name.*write widths"),
        ("seed = true", "seed True: a text, a number or a list is needed"),
        ('widths = "2:1"', "sweep.toml: widths 2:1: start is greater than stop"),
    ],
)
def test_a_wrong_file_is_told_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_request({}, config_path=path)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(InputError, match=r"--config nowhere.toml: the file cannot be read"):
        read_request({}, config_path=Path("nowhere.toml"))


def test_records_go_to_a_folder_named_after_the_device_and_a_file_named_after_the_corpus() -> None:
    assert default_out(CUDA, corpus_id="abc") == Path("results/nvidia-h200/sweep-abc.jsonl")
    assert default_out(CPU, corpus_id="def") == Path("results/cpu-some-cpu-2-0ghz/sweep-def.jsonl")


def test_records_of_an_own_network_go_to_a_file_named_after_its_file_and_function() -> None:
    assert default_out(CUDA, corpus_id="abc", own_model="nets/my_unet.py:build") == Path(
        "results/nvidia-h200/sweep-my-unet-build-abc.jsonl"
    )


def test_a_floor_above_its_cap_is_refused_and_lifts_a_cap_that_nobody_gave() -> None:
    with pytest.raises(InputError, match="--max-steps 5: it is below --min-steps 9"):
        config(min_steps="9", max_steps="5")
    assert config(min_steps="9000").max_steps == 9000


def test_the_noise_target_is_one_percent() -> None:
    assert config().noise_target == config(CUDA).noise_target == 0.01
    assert config(noise_target="2.5%").noise_target == 0.025


@pytest.mark.parametrize("option", ["batch-size", "kind", "soak", "memory-by", "replicates"])
def test_a_search_refuses_what_it_finds_itself(option: str) -> None:
    values = {
        "batch-size": "4",
        "kind": "memory",
        "soak": "largest-first",
        "memory-by": "step",
        "replicates": "2",
    }
    with pytest.raises(InputError, match=f"--find-max-batch: the search sets --{option} by itself"):
        config(find_max_batch="yes", **{option.replace("-", "_"): values[option]})


def test_a_file_that_powershell_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_bytes('widths = "640:1280"\r\nseed = 7\r\n'.encode("utf-16"))
    assert read_request({}, config_path=path).values["seed"] == 7


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ("multiclass", None, None, None)),
        ({"task": "binary"}, ("binary", None, None, None)),
        ({"classes": "2"}, ("binary", None, None, None)),
        ({"classes": "3"}, ("multiclass", None, None, None)),
        ({"classes": "7"}, ("multiclass", 7, None, None)),
        ({"task": "multiclass", "classes": "2"}, ("multiclass", 2, None, None)),
        ({"images": "d", "mask-values": "0,255"}, ("binary", None, (0, 255), None)),
        ({"images": "d", "mask-values": "0,1,2,3"}, ("multiclass", 4, None, None)),
        ({"images": "d", "mask-values": "0,128,255"}, ("multiclass", None, (0, 128, 255), None)),
        ({"corpus": "d", "classes": "21", "ignore-value": "255"}, ("multiclass", 21, None, 255)),
    ],
)
def test_numbers_in_masks_have_one_name_for_one_meaning(flags: dict[str, str], expected: tuple[object, ...]) -> None:
    sizes = {} if flags.keys() & {"images", "corpus"} else {"widths": "64:128"}
    asked = complete(read_request(sizes | flags, config_path=None), environment=CPU)
    assert (asked.task, asked.classes, asked.mask_values, asked.ignore_value) == expected


def test_what_masks_mean_can_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('images = "logs"\nmask-values = [0, 100, 200]\nclasses = 3\nignore-value = 255\n')
    asked = complete(read_request({}, config_path=path), environment=CPU)
    assert (asked.classes, asked.mask_values, asked.ignore_value) == (None, (0, 100, 200), 255)
    assert asked.images == {"images": "logs", "mask-values": "0,100,200", "classes": "3", "ignore-value": "255"}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"task": "binary", "classes": "3"}, "--task binary: it has 2 classes, and 3 were asked for; leave --task out"),
        ({"task": "binary", "images": "d", "mask-values": "0,1,9"}, "--task binary: it has 2 classes, and 3 were"),
        ({"images": "d", "classes": "3", "mask-values": "0,9"}, "--classes 3: --mask-values 0,9 lists 2; leave"),
        ({"images": "d", "mask-values": "255"}, "--mask-values 255: a network tells 2 to 254 classes apart; list"),
        ({"images": "d", "mask-values": "0,256"}, "--mask-values 0,256: 256 is above 255; write at most 255"),
        ({"images": "d", "mask-values": "0,255", "ignore-value": "255"}, "--ignore-value 255: --mask-values 0,255 has"),
        ({"mask-values": "0,255"}, "--mask-values 0,255: the masks of synthetic images hold classes already; leave"),
        ({"ignore-value": "255"}, "--ignore-value 255: the masks of synthetic images hold classes already; leave"),
        ({"classes": "1"}, "--classes 1:"),
    ],
)
def test_what_masks_mean_is_refused_where_it_contradicts_itself(flags: dict[str, str], told: str) -> None:
    sizes = {} if "images" in flags else {"widths": "64:128"}
    with pytest.raises(InputError) as error:
        complete(read_request(sizes | flags, config_path=None), environment=CPU)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize("name", ["size-law", "examples"])
def test_what_is_said_of_drawn_images_is_refused_beside_ones_own(name: str, tmp_path: Path) -> None:
    text = {"size-law": "uniform", "examples": "5"}[name]
    with pytest.raises(InputError, match=f"--{name} {text}: it describes synthetic images"):
        read_request({"images": str(tmp_path), name: text}, config_path=None)
    config = tmp_path / "c.toml"
    config.write_text(f'{name} = "{text}"\n', encoding="utf-8")
    assert name not in read_request({"images": str(tmp_path)}, config_path=config).values, "flags win"


@pytest.mark.parametrize("name", ["images", "corpus", "sizes"])
def test_an_empty_path_is_not_the_working_folder(name: str) -> None:
    with pytest.raises(InputError, match="it is empty"):
        read_request({name: ""}, config_path=None)
