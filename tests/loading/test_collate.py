from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vnbench.loading.collate import Batch, Example, collate, device_tensors, to_device


def example(height: int, width: int, *, gray: int = 7, label: int = 1) -> Example:
    return np.full((height, width), gray, dtype=np.uint8), np.full((height, width), label, dtype=np.uint8)


def test_examples_are_padded_at_the_bottom_and_right_to_the_aligned_maximum() -> None:
    batch = collate([example(2, 40, gray=10, label=1), example(33, 3, gray=20, label=2)])
    assert batch.images_BHW.shape == batch.masks_BHW.shape == (2, 64, 64)
    assert batch.images_BHW.dtype == batch.masks_BHW.dtype == torch.uint8
    assert batch.sizes_B2.dtype == torch.int32
    assert batch.sizes_B2.tolist() == [[2, 40], [33, 3]]
    images = np.full((2, 64, 64), 255, dtype=np.uint8)
    masks = np.zeros((2, 64, 64), dtype=np.uint8)
    images[0, :2, :40], masks[0, :2, :40] = 10, 1
    images[1, :33, :3], masks[1, :33, :3] = 20, 2
    assert np.array_equal(batch.images_BHW.numpy(), images)
    assert np.array_equal(batch.masks_BHW.numpy(), masks)


def test_aligned_example_is_not_padded() -> None:
    image_HW = np.random.default_rng(0).integers(0, 256, (32, 96), dtype=np.uint8)
    batch = collate([(image_HW, image_HW)])
    assert batch.images_BHW.shape == (1, 32, 96)
    assert np.array_equal(batch.images_BHW[0].numpy(), image_HW)


def test_canvas_can_be_larger_than_the_examples() -> None:
    batch = collate([example(2, 3)], canvas=(32, 96))
    assert batch.images_BHW.shape == (1, 32, 96)
    assert batch.sizes_B2.tolist() == [[2, 3]]
    assert int((batch.images_BHW != 255).sum()) == 6


@pytest.mark.parametrize("canvas", [(32, 32), (96, 32), (64, 65), (60, 64)])
def test_canvas_that_is_too_small_or_not_aligned_is_refused(canvas: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"canvas .* multiples of 32 and at least as large as 40 x 33 px"):
        collate([example(33, 4), example(4, 40)], canvas=canvas)


def test_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        collate([])


def test_decoded_pixels_may_be_read_only() -> None:
    image_HW, mask_HW = example(4, 4)
    image_HW.setflags(write=False)
    mask_HW.setflags(write=False)
    assert collate([(image_HW, mask_HW)]).images_BHW[0, :4, :4].eq(7).all()


def test_all_three_tensors_are_pinned_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: set[int] = set()
    empty = torch.empty

    def noting_pins(*arguments: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        tensor = empty(*arguments, **options)
        pinned.update([tensor.data_ptr()] if pin_memory else [])
        return tensor

    monkeypatch.setattr(torch, "empty", noting_pins)  # without CUDA there is nothing to pin for
    batch = collate([example(2, 40), example(33, 3)], pin_memory=True)
    assert [tensor.data_ptr() in pinned for tensor in batch] == [True, True, True]
    assert batch.sizes_B2.tolist() == [[2, 40], [33, 3]]
    assert batch.sizes_B2.dtype == torch.int32
    plain = collate([example(2, 40)])
    assert not any(tensor.data_ptr() in pinned for tensor in plain)


def test_white_and_padding_become_zero_and_black_becomes_one() -> None:
    image_HW = np.array([[0, 255, 51]], dtype=np.uint8)
    images_BCHW, targets_BHW, _ = device_tensors(collate([(image_HW, image_HW // 51)]))
    assert images_BCHW.shape == (1, 1, 32, 32)
    assert images_BCHW.dtype == torch.float32
    assert images_BCHW[0, 0, 0, :4].tolist() == pytest.approx([1.0, 0.0, 0.8, 0.0])
    assert int(images_BCHW.count_nonzero()) == 2
    assert targets_BHW.dtype == torch.int64
    assert targets_BHW[0, 0, :4].tolist() == [0, 5, 1, 0]


def test_valid_mask_covers_exactly_the_examples() -> None:
    _, _, valid_BHW = device_tensors(collate([example(1, 3), example(2, 1)]))
    assert valid_BHW.dtype == torch.bool
    expected = torch.zeros(2, 32, 32, dtype=torch.bool)
    expected[0, 0, 0:3] = True
    expected[1, 0:2, 0] = True
    assert torch.equal(valid_BHW, expected)


def test_device_tensors_leave_the_batch_as_it_was() -> None:
    batch = collate([example(5, 5)])
    copy = Batch(*(tensor.clone() for tensor in batch))
    device_tensors(batch)
    assert all(torch.equal(a, b) for a, b in zip(batch, copy, strict=True))


def test_everything_is_made_on_the_device_of_the_batch() -> None:
    batch = to_device(collate([example(5, 5)]), torch.device("meta"), non_blocking=True)
    assert isinstance(batch, Batch)
    assert {tensor.device.type for tensor in (*batch, *device_tensors(batch))} == {"meta"}


@pytest.mark.gpu
def test_cuda_gives_the_tensors_of_the_cpu() -> None:
    batch = collate([example(1, 3), example(2, 40)])
    on_gpu = device_tensors(to_device(batch, torch.device("cuda"), non_blocking=False))
    for ours, theirs in zip(device_tensors(batch), on_gpu, strict=True):
        assert theirs.device.type == "cuda"
        # CUDA divides by a constant as it multiplies by its reciprocal: the last bit of a gray may differ.
        torch.testing.assert_close(ours, theirs.cpu())
    assert float(on_gpu.images_BCHW[0, 0, -1, -1]) == 0, "padding is exactly blank"
