from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vnbench.model.veernet import build_model
from vnbench.records.spec.words import ModelName
from vnbench.trial.step.layout import lay_out, lay_out_images

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def model(name: ModelName = "veernet-tiny") -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes=3, norm_groups="half-or-16", norm_precision="fp32", checkpointing="none")


@pytest.mark.parametrize("num_examples", [1, 3])
def test_images_of_one_channel_get_the_strides_of_channels_last_without_a_copy(num_examples: int) -> None:
    images_BCHW = torch.rand(num_examples, 64, 96)[:, None]
    laid_out = lay_out_images(images_BCHW, "channels-last")
    assert laid_out.stride() == (64 * 96, 1, 96, 1)
    assert laid_out.data_ptr() == images_BCHW.data_ptr()
    assert torch.equal(laid_out, images_BCHW)
    assert lay_out_images(images_BCHW, "contiguous") is images_BCHW


@pytest.mark.parametrize("device", DEVICES)
def test_the_convolutions_of_a_model_in_channels_last_return_it(device: str) -> None:
    laid_out = lay_out(model(), "channels-last", device=torch.device(device))
    strides: list[int] = []
    for layer in laid_out.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, output: strides.append(output.stride(1)))
    laid_out(lay_out_images(torch.rand(2, 64, 96, device=device)[:, None], "channels-last"))
    assert len(strides) == 27
    assert set(strides) == {1}


def test_laying_a_model_out_leaves_its_parameters_and_the_random_numbers_after_it() -> None:
    plain = model()
    after_plain = torch.rand(1)
    laid_out = model()
    before = dict(laid_out.named_parameters())
    laid_out = lay_out(laid_out, "channels-last", device=torch.device("cpu"))
    assert torch.equal(torch.rand(1), after_plain)
    assert list(dict(laid_out.named_parameters())) == list(dict(plain.named_parameters()))
    assert all(parameter is before[name] for name, parameter in laid_out.named_parameters())
    assert all(map(torch.equal, laid_out.parameters(), plain.parameters()))


@pytest.mark.parametrize(("name", "num_strided"), [("veernet-tiny", 3), ("veernet", 5)])
def test_no_strided_pointwise_convolution_of_few_channels_reaches_onednn(name: ModelName, num_strided: int) -> None:
    laid_out = lay_out(model(name), "channels-last", device=torch.device("cpu"))
    strided = [
        layer
        for layer in laid_out.modules()
        if type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.stride != (1, 1)
    ]
    assert len(strided) == num_strided
    assert all(layer.in_channels >= 16 for layer in strided)


def test_steps_in_channels_last_do_not_corrupt_the_heap() -> None:
    # Without the replacement oneDNN writes past a workspace, and the process dies within a few steps.
    laid_out = lay_out(model(), "channels-last", device=torch.device("cpu"))
    plain = model()

    def gradient(network: nn.Module, images_BCHW: Tensor) -> Tensor:
        network.zero_grad()
        network(images_BCHW).square().mean().backward()
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])

    for seed in range(8):
        images_BCHW = torch.rand(1, 64, 96, generator=torch.Generator().manual_seed(seed))[:, None]
        expected = gradient(plain, images_BCHW)
        found = gradient(laid_out, lay_out_images(images_BCHW, "channels-last"))
        assert (found - expected).norm() <= 1e-4 * expected.norm()
