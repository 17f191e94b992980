from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from cuda_autocast import CudaAutocast
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vnbench.model.loss import tversky_loss_sum
from vnbench.model.normalization import NormConfig
from vnbench.model.positions import token_positions
from vnbench.model.veernet import PRESETS, VeerNet, build_model
from vnbench.records.spec.words import (
    CHECKPOINTINGS,
    MODEL_NAMES,
    NORM_KERNELS,
    Checkpointing,
    ModelName,
    NormKernel,
    NormPrecision,
)

aten = torch.ops.aten

SIZES = [(64, 96), (50, 96), (64, 60), (33, 65), (64, 96), (40, 90), (10, 96), (64, 7)]
"""Height and width of eight ragged examples, which share a canvas of 64 x 96 pixels."""


def tiny(
    *,
    norm_precision: NormPrecision = "fp32",
    checkpointing: Checkpointing = "none",
    norm_groups: str = "half-or-16",
    num_classes: int = 3,
    norm_kernel: NormKernel = "native",
) -> VeerNet:
    torch.manual_seed(0)
    return build_model(
        "veernet-tiny",
        num_classes=num_classes,
        norm_groups=norm_groups,
        norm_precision=norm_precision,
        checkpointing=checkpointing,
        norm_kernel=norm_kernel,
    )


def ragged_examples(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, targets and validity of eight ragged examples, padded with zeros to one canvas."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 1, 64, 96, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, 3, (8, 64, 96), generator=generator)
    valid = torch.zeros(8, 64, 96, dtype=torch.bool)
    for example, (height, width) in enumerate(SIZES):
        valid[example, :height, :width] = True
    return images.where(valid[:, None], 0), targets, valid


def flat_gradient(model: VeerNet) -> Tensor:
    gradients = [parameter.grad for parameter in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


def step_gradient(model: VeerNet, *, micro_batch_size: int) -> Tensor:
    """Return the gradient of one optimizer step of eight examples."""
    model.zero_grad()
    images, targets, valid = ragged_examples(next(model.parameters()).dtype)
    for start in range(0, 8, micro_batch_size):
        part = slice(start, start + micro_batch_size)
        (tversky_loss_sum(model(images[part]), targets[part], valid[part]) / 8).backward()
    return flat_gradient(model)


@pytest.mark.parametrize("micro_batch_size", [4, 1])
def test_gradient_of_a_step_does_not_depend_on_the_micro_batch(micro_batch_size: int) -> None:
    model = tiny().double()
    whole = step_gradient(model, micro_batch_size=8)
    parts = step_gradient(model, micro_batch_size=micro_batch_size)
    assert torch.linalg.vector_norm(whole) > 0
    assert torch.linalg.vector_norm(parts - whole) <= 1e-9 * torch.linalg.vector_norm(whole)


def test_examples_on_one_canvas_do_not_influence_each_other() -> None:
    model = tiny().double()
    images, _, _ = ragged_examples()
    with torch.no_grad():
        together = model(images[:3])
        alone = torch.cat([model(images[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm_precision", ["fp32", "input"])
@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_checkpointed_gradients_equal_plain_ones(precision: str, norm_precision: NormPrecision) -> None:
    gradients = []
    for checkpointing in CHECKPOINTINGS:
        model = tiny(norm_precision=norm_precision, checkpointing=checkpointing)
        if precision == "float64":
            model.double()
        images, targets, valid = (part[:2] for part in ragged_examples(next(model.parameters()).dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = tversky_loss_sum(model(images), targets, valid)
        loss.backward()
        gradients.append(flat_gradient(model))
    plain, *others = gradients
    tolerance = 1e-12 if precision == "float64" else 1e-5
    for checkpointed in others:
        assert torch.linalg.vector_norm(checkpointed - plain) <= tolerance * torch.linalg.vector_norm(plain)


def kept_bytes(model: VeerNet, images: Tensor) -> int:
    """Return the bytes of activations that the forward pass keeps for the backward pass, outside recomputed stages."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(images)
    # The graph must outlive the count, or addresses are handed out twice.
    assert logits.requires_grad
    return sum(kept.values())


def test_checkpointing_keeps_a_fraction_of_the_activations() -> None:
    images = torch.rand(1, 1, 64, 96)
    assert kept_bytes(tiny(checkpointing="stages"), images) < 0.3 * kept_bytes(tiny(), images)


def counted(model: VeerNet, operator: object, precision: str) -> tuple[int, Tensor]:
    """Return how often an operator runs forward and backward in fp32 or under bf16 autocast, and the gradient."""

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.count += func is operator
            return func(*args, **(kwargs or {}))

    images, targets, valid = (part[:2] for part in ragged_examples(torch.float32))
    with Counter() as counter, torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits = model(images)
    with counter:
        tversky_loss_sum(logits, targets, valid).backward()
    return counter.count, flat_gradient(model)


@pytest.mark.parametrize("norm_kernel", NORM_KERNELS)
@pytest.mark.parametrize(("precision", "norm_precision"), [("fp32", "fp32"), ("bf16", "fp32"), ("bf16", "input")])
def test_selective_checkpointing_computes_costly_operators_once_and_the_same_gradient_to_the_bit(
    precision: str, norm_precision: NormPrecision, norm_kernel: NormKernel
) -> None:
    for operator in (aten.convolution.default, aten._scaled_dot_product_flash_attention_for_cpu.default):
        plain, selective, stages = (
            counted(
                tiny(norm_precision=norm_precision, norm_kernel=norm_kernel, checkpointing=checkpointing),
                operator,
                precision,
            )
            for checkpointing in ("none", "selective", "stages")
        )
        assert plain[0] == selective[0] < stages[0]
        assert torch.equal(plain[1], selective[1])


def test_checkpointing_is_idle_where_no_gradient_is_wanted() -> None:
    images = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        assert torch.equal(tiny(checkpointing="stages")(images), tiny()(images))


@pytest.mark.parametrize(
    ("name", "num_classes", "expected"),
    [
        ("veernet", 3, 2_270_691),
        ("veernet", 2, 2_270_674),
        ("veernet-tiny", 3, 381_755),
        ("veernet-tiny", 2, 381_750),
    ],
)
def test_presets_have_their_number_of_parameters(name: ModelName, num_classes: int, expected: int) -> None:
    model = build_model(
        name, num_classes=num_classes, norm_groups="half-or-16", norm_precision="fp32", checkpointing="none"
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_every_model_name_has_a_preset() -> None:
    assert set(PRESETS) == set(MODEL_NAMES)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (96, 32)])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_logits_have_the_resolution_of_the_images(height: int, width: int, num_classes: int) -> None:
    with torch.no_grad():
        logits = tiny(num_classes=num_classes)(torch.rand(2, 1, height, width))
    assert logits.shape == (2, num_classes, height, width)
    assert logits.dtype == torch.float32
    assert logits.is_contiguous()


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 64, 90), (1, 1, 50, 96), (1, 1, 0, 96), (1, 3, 64, 96), (1, 64, 96), (64, 96)],
)
def test_images_of_a_wrong_shape_are_refused(shape: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        tiny()(torch.zeros(*shape))


def test_wrong_channels_and_classes_are_refused() -> None:
    norm = NormConfig(groups="half-or-16", precision="fp32")
    with pytest.raises(ValueError, match="6 numbers"):
        VeerNet((4, 8, 16, 32, 64), num_classes=3, norm=norm, checkpointing="none")
    with pytest.raises(ValueError, match="multiple of 32"):
        VeerNet((4, 8, 16, 32, 64, 60), num_classes=3, norm=norm, checkpointing="none")
    with pytest.raises(ValueError, match="num_classes 1"):
        VeerNet(PRESETS["veernet-tiny"], num_classes=1, norm=norm, checkpointing="none")


@pytest.mark.parametrize(("norm_precision", "expected"), [("fp32", torch.float32), ("input", torch.bfloat16)])
def test_norm_precision_decides_what_lies_between_convolutions(
    norm_precision: NormPrecision, expected: torch.dtype
) -> None:
    model = tiny(norm_precision=norm_precision)
    seen: set[torch.dtype] = set()
    stages: list[nn.Module] = [model.stem, model.attention, *model.encoder, *model.decoder]
    for stage in stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.rand(1, 1, 64, 96))
    assert seen == {expected}
    assert logits.dtype == torch.bfloat16


@pytest.mark.parametrize(("norm_precision", "expected"), [("fp32", torch.float32), ("input", torch.bfloat16)])
def test_upsampling_and_concatenation_have_the_precision_of_the_norm_under_the_rules_of_cuda(
    norm_precision: NormPrecision, expected: torch.dtype
) -> None:
    model = tiny(norm_precision=norm_precision)
    images = torch.rand(1, 1, 64, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        on_cpu = model(images)
        with CudaAutocast() as rules:
            on_cuda = model(images)
    assert rules.dtypes == [expected] * 5
    assert rules.num_mixed == 0
    assert torch.equal(on_cuda, on_cpu)


def test_bf16_autocast_stays_near_fp32() -> None:
    images = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = tiny()(images)
        for norm_precision in ("fp32", "input"):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = tiny(norm_precision=norm_precision)(images)
            # Measured: 2 % of the spread of the logits, with either precision of the norm.
            assert (logits - exact).square().mean().sqrt() < 0.05 * exact.std()


@pytest.mark.parametrize("norm_groups", ["half-or-16", "16", "1"])
def test_every_parameter_gets_a_gradient(norm_groups: str) -> None:
    model = tiny(norm_groups=norm_groups)
    images, targets, valid = (part[:1] for part in ragged_examples(torch.float32))
    tversky_loss_sum(model(images), targets, valid).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_convolutions_before_a_norm_have_no_bias() -> None:
    convolutions = {name: module for name, module in tiny().named_modules() if isinstance(module, nn.Conv2d)}
    biased = [name for name, convolution in convolutions.items() if convolution.bias is not None]
    assert biased == ["head"]


def test_training_on_one_curve_lowers_its_loss() -> None:
    columns = torch.arange(96)
    rows = (32 + 20 * torch.sin(columns / 9)).long()
    targets = torch.zeros(1, 64, 96, dtype=torch.int64)
    for thickness in (-1, 0, 1):
        targets[0, rows + thickness, columns] = 1
    paper = 0.7 + 0.3 * torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    images = paper.where(targets[:, None] == 0, 0.25)
    model = tiny(num_classes=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = tversky_loss_sum(model(images), targets, torch.ones_like(targets, dtype=torch.bool))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_positions_of_a_crop_equal_those_of_the_larger_canvas(dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    canvas = token_positions(20, 400, dim=128, device=device, dtype=dtype).unflatten(0, (20, 400))
    crop = token_positions(15, 101, dim=128, device=device, dtype=dtype).unflatten(0, (15, 101))
    assert crop.dtype == dtype
    assert torch.equal(crop, canvas[:15, :101])


def test_no_two_tokens_of_the_largest_canvas_share_a_position() -> None:
    positions = token_positions(20, 400, dim=64, device=torch.device("cpu"), dtype=torch.float32)
    assert positions.shape == (8000, 64)
    assert positions.unique(dim=0).shape[0] == 8000


def test_position_is_sines_then_cosines_of_the_row_then_of_the_column() -> None:
    positions = token_positions(3, 5, dim=8, device=torch.device("cpu"), dtype=torch.float64)
    row, column = 2, 4
    frequencies = torch.tensor([1.0, 0.01], dtype=torch.float64)
    row_angles, column_angles = row * frequencies, column * frequencies
    expected = torch.cat((row_angles.sin(), row_angles.cos(), column_angles.sin(), column_angles.cos()))
    torch.testing.assert_close(positions[row * 5 + column], expected, rtol=0, atol=1e-12)


def test_positions_of_an_odd_dim_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        token_positions(2, 2, dim=6, device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("checkpointing", ["none", "stages"])
def test_cuda_gradient_equals_the_cpu_gradient_in_float64(checkpointing: Checkpointing) -> None:
    model = tiny(checkpointing=checkpointing).double()
    images, targets, valid = (part[:2] for part in ragged_examples())
    gradients = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        tversky_loss_sum(model(images.to(device)), targets.to(device), valid.to(device)).backward()
        gradients.append(flat_gradient(model).cpu())
    on_cpu, on_cuda = gradients
    assert torch.linalg.vector_norm(on_cuda - on_cpu) <= 1e-9 * torch.linalg.vector_norm(on_cpu)
