"""Figures of memory and time that others published of their own training, each with the training that it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import forecast_classifiers as classifiers
import forecast_networks as networks
from forecast_traces import Training
from torch import nn

from vnbench.records.spec.words import Precision

Build = Callable[[], nn.Module]

MMSEG = "mmsegmentation's model pages, V100, training under DistributedDataParallel"
XMEM = "xMem's runs, RTX 3060, torch 2.6"
GPUMEMNET = "GPUMemNet's fake_tensor.xlsx"
TIMM = "timm's benchmark-train-amp-{}-pt112-cu113-rtx3090.csv"
LAMBDA = "Lambda's pytorch-train-throughput-fp16.csv and -fp32.csv (github.com/lambdal/deeplearning-benchmark)"
NVIDIA = "NVIDIA's DeepLearningExamples, PyTorch/Classification/ConvNets, tables of one GPU, container 21.03"


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """A published peak of memory."""

    name: str
    training: Training
    published_mib: float
    rounded_mib: float = 0.5
    """Half of the last digit that was published."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A published time of a step."""

    name: str
    training: Training
    published_ms: float
    is_fitted: bool
    """Whether a factor of the model was read off it."""
    per_worker: float | None = None
    """Images per second and loader worker, where the images were loaded."""


def _peak(
    name: str,
    build: Callable[[], networks.Segmenter],
    *,
    images: tuple[int, int, int],
    gb: str,
    optimizer: str = "sgd",
    is_fp16: bool = False,
) -> Peak:
    digits = len(gb.partition(".")[2])
    return Peak(
        name=f"{name}, {images[0]} x {images[1]} x {images[2]} px{', fp16' if is_fp16 else ''}",
        training=Training(
            build=build,
            loss=lambda network, x, y: network.loss(x, y),  # type: ignore[operator]  # a Segmenter
            images=images,
            optimizer="adamw" if optimizer == "adamw" else "sgd",
            precision="fp16" if is_fp16 else "fp32",
        ),
        published_mib=1000 * float(gb),
        rounded_mib=500 * 10.0**-digits,
        source=MMSEG,
    )


def allocated_peaks() -> Iterator[Peak]:
    """Yield the peaks of allocated memory."""
    crops = {64: ("0.680", "0.599", "0.596"), 128: ("0.968", "0.982", "0.999"), 256: ("2.525", "2.588", "2.604")}
    for side, told in crops.items():
        for head, gb in zip(("fcn", "psp", "aspp"), told, strict=True):
            yield _peak(f"UNet-S5-D16 {head.upper()}", partial(networks.unet, head), images=(4, side, side), gb=gb)
    small = ("2.1", "2.6", "3.6", "4.8", "6.1", "7.2")
    large = ("3.64", "4.49", "7.42", "10.86", "15.07", "18.00")
    for name, gb in zip(networks.SEGFORMERS, small, strict=True):
        build = partial(networks.segformer, name, 150)
        yield _peak(f"SegFormer {name}", build, images=(2, 512, 512), gb=gb, optimizer="adamw")
    build = partial(networks.segformer, "B5", 150)
    yield _peak("SegFormer B5", build, images=(2, 640, 640), gb="11.5", optimizer="adamw")
    for name, gb in zip(networks.SEGFORMERS, large, strict=True):
        build = partial(networks.segformer, name, 19)
        yield _peak(f"SegFormer {name}", build, images=(1, 1024, 1024), gb=gb, optimizer="adamw")
    for depth, gb in ((18, "1.7"), (50, "5.7"), (101, "9.2")):
        yield _peak(f"FCN R-{depth}-D8", partial(networks.fcn, depth), images=(2, 512, 1024), gb=gb)
    yield _peak("FCN R-101-D8", partial(networks.fcn, 101), images=(2, 512, 1024), gb="5.37", is_fp16=True)
    for depth, gb in ((18, "1.9"), (50, "6.5"), (101, "10.4")):
        yield _peak(f"FCN R-{depth}-D8", partial(networks.fcn, depth), images=(2, 769, 769), gb=gb)
    for depth, gb in ((50, "3.4"), (101, "4.5")):
        build = partial(networks.fcn, depth, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), rate=6)
        yield _peak(f"FCN-D6 R-{depth}-D16", build, images=(2, 512, 1024), gb=gb)


OF_XMEM: Sequence[tuple[str, Build, Literal["sgd", "adam", "adamw"], int, int]] = (
    ("ConvNeXt-T", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), "adamw", 200, 3308),
    ("ConvNeXt-T", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), "adamw", 400, 6420),
    ("ConvNeXt-T", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), "sgd", 300, 4610),
    ("ConvNeXt-T", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), "sgd", 700, 10520),
    ("ConvNeXt-B", partial(classifiers.convnext, width=128, numbers=(3, 3, 27, 3)), "sgd", 300, 9666),
    ("MnasNet", classifiers.mnasnet, "adamw", 200, 2142),
    ("MnasNet", classifiers.mnasnet, "adamw", 500, 4092),
    ("ResNet-50", partial(classifiers.resnet, 50), "adam", 250, 4018),
)
"""Network, optimizer, examples of 86 x 86 px, and MiB."""

OF_GPUMEMNET: Sequence[tuple[str, Build, tuple[int, int, int]]] = (
    ("resnet18", partial(classifiers.resnet, 18), (2153, 3291, 7269)),
    ("resnet50", partial(classifiers.resnet, 50), (2875, 5229, 15169)),
    ("vgg16", partial(classifiers.vgg, 16, has_norms=False), (4425, 7507, 24761)),
    ("convnext_tiny", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), (3013, 5965, 16857)),
    ("vit_base", classifiers.vit_base, (3491, 6459, 17601)),
    ("efficientnet_b0", classifiers.efficientnet, (2587, 4969, 13987)),
    ("mobilenetv2", classifiers.mobilenetv2, (2489, 4535, 12721)),
)
"""Network, and MiB with 8, 32 and 128 examples of 224 x 224 px."""


def device_peaks() -> Iterator[Peak]:
    """Yield the peaks of the memory of a device, as its driver tells it."""
    for name, build, optimizer, batch, mib in OF_XMEM:
        training = _classification(build, images=(batch, 86, 86), optimizer=optimizer, precision="tf32")
        told = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[optimizer]
        yield Peak(name=f"{name}, {told}, batch {batch}", training=training, published_mib=mib, source=XMEM)
    for name, build, figures in OF_GPUMEMNET:
        for batch, mib in zip((8, 32, 128), figures, strict=True):
            training = _classification(build, images=(batch, 224, 224), precision="tf32")
            yield Peak(name=f"{name}, batch {batch}", training=training, published_mib=mib, source=GPUMEMNET)


OF_TIMM: Sequence[tuple[str, Build, int, float, bool]] = (
    ("resnet18", partial(classifiers.resnet, 18), 512, 146.7, True),
    ("resnet34", partial(classifiers.resnet, 34), 512, 250.8, True),
    ("resnet50", partial(classifiers.resnet, 50), 512, 419.5, True),
    ("resnet101", partial(classifiers.resnet, 101), 256, 340.7, True),
    ("vgg11", partial(classifiers.vgg, 11, has_norms=False), 512, 536.5, True),
    ("vgg11_bn", partial(classifiers.vgg, 11, has_norms=True), 384, 460.9, True),
    ("mobilenetv2_100", classifiers.mobilenetv2, 512, 220.6, True),
    ("efficientnet_b0", classifiers.efficientnet, 512, 291.2, True),
    ("resnext50_32x4d", partial(classifiers.resnext, 50, groups=32, width=4), 384, 382.8, True),
    ("resnext101_64x4d", partial(classifiers.resnext, 101, groups=64, width=4), 128, 350.2, True),
    ("resnext101_32x8d", partial(classifiers.resnext, 101, groups=32, width=8), 128, 407.6, True),
    ("seresnext50_32x4d", partial(classifiers.resnext, 50, groups=32, width=4, excites=True), 256, 313.1, True),
    ("seresnext101_32x4d", partial(classifiers.resnext, 101, groups=32, width=4, excites=True), 192, 398.5, True),
    ("regnetx_002", partial(classifiers.regnetx, (24, 56, 152, 368), (1, 1, 4, 7), 8), 512, 124.0, True),
    ("regnetx_004", partial(classifiers.regnetx, (32, 64, 160, 384), (1, 2, 7, 12), 16), 512, 286.5, True),
    ("regnetx_006", partial(classifiers.regnetx, (48, 96, 240, 528), (1, 3, 5, 7), 24), 512, 397.2, True),
    ("regnetx_008", partial(classifiers.regnetx, (64, 128, 288, 672), (1, 3, 7, 5), 16), 512, 494.0, True),
    ("regnetx_016", partial(classifiers.regnetx, (72, 168, 408, 912), (2, 4, 10, 2), 24), 512, 749.0, True),
    ("regnetx_032", partial(classifiers.regnetx, (96, 192, 432, 1008), (2, 6, 15, 2), 48), 384, 1241.9, True),
    ("regnetx_040", partial(classifiers.regnetx, (80, 240, 560, 1360), (2, 5, 14, 2), 40), 384, 866.9, True),
    ("regnetx_064", partial(classifiers.regnetx, (168, 392, 784, 1624), (2, 4, 10, 1), 56), 256, 1970.9, True),
    ("regnetx_080", partial(classifiers.regnetx, (80, 240, 720, 1920), (2, 5, 15, 1), 120), 256, 1410.0, True),
    ("regnetx_120", partial(classifiers.regnetx, (224, 448, 896, 2240), (2, 5, 11, 1), 112), 256, 2721.6, True),
    ("regnetx_160", partial(classifiers.regnetx, (256, 512, 896, 2048), (2, 6, 13, 1), 128), 192, 1783.3, True),
    ("densenet121", classifiers.densenet121, 256, 278.4, False),
    ("convnext_tiny", partial(classifiers.convnext, width=96, numbers=(3, 3, 9, 3)), 256, 311.5, False),
    ("efficientnet_b0_gn", partial(classifiers.efficientnet, norm=classifiers.groups_of_eight), 256, 352.2, False),
)
"""Network, examples of 224 x 224 px, milliseconds, and whether a factor was read off them."""


CONTIGUOUS: Mapping[str, tuple[int, float]] = {
    "resnet18": (512, 184.9),
    "resnet34": (512, 315.0),
    "resnet50": (512, 619.0),
    "resnet101": (256, 448.3),
    "vgg11": (512, 619.7),
    "vgg11_bn": (384, 546.0),
    "mobilenetv2_100": (512, 278.6),
    "efficientnet_b0": (384, 262.1),
    "resnext50_32x4d": (384, 578.0),
    "regnetx_008": (512, 312.9),
    "densenet121": (256, 348.8),
    "convnext_tiny": (256, 313.9),
    "efficientnet_b0_gn": (256, 289.3),
}
"""Examples and milliseconds of the same networks on contiguous maps; no factor was read off them."""


def steps_on_rtx_3090() -> Iterator[Step]:
    """Yield timm's times of steps under autocast on channels-last maps."""
    for name, build, batch, milliseconds, is_fitted in OF_TIMM:
        training = _classification(build, images=(batch, 224, 224), precision="fp16")
        yield Step(name=f"{name}, batch {batch}", training=training, published_ms=milliseconds, is_fitted=is_fitted)


def contiguous_steps_on_rtx_3090() -> Iterator[Step]:
    """Yield timm's times of steps under autocast on contiguous maps."""
    builds = {name: build for name, build, *_ in OF_TIMM}
    for name, (batch, milliseconds) in CONTIGUOUS.items():
        training = _classification(builds[name], images=(batch, 224, 224), precision="fp16")
        training = replace(training, is_channels_last=False)
        yield Step(name=f"{name}, batch {batch}", training=training, published_ms=milliseconds, is_fitted=False)


RESNEXT = partial(classifiers.resnext, 101, groups=32, width=4)
WIDE = partial(classifiers.efficientnet, excites_wide=True)
B4 = partial(classifiers.efficientnet, width=1.4, depth=1.8)

Speeds = tuple[int, int, int, int]
"""Examples and images per second in fp16 under autocast, and the same in fp32, or in TF32 on the A100."""

OF_NVIDIA: Sequence[tuple[str, Build, int, Speeds, Speeds]] = (
    ("ResNet-50", partial(classifiers.resnet, 50), 224, (256, 2470, 256, 938), (256, 1200, 112, 367)),
    ("ResNeXt-101 32x4d", RESNEXT, 224, (128, 1211, 128, 456), (128, 587, 64, 147)),
    ("SE-ResNeXt-101 32x4d", partial(RESNEXT, excites=True), 224, (128, 855, 128, 395), (112, 443, 64, 132)),
    ("EfficientNet-B0", classifiers.efficientnet, 224, (256, 2489, 256, 1078), (128, 1301, 64, 655)),
    ("EfficientNet-WideSE-B0", WIDE, 224, (256, 2512, 256, 1078), (128, 1299, 64, 655)),
    ("EfficientNet-B4", B4, 380, (128, 331, 64, 157), (32, 204, 16, 83)),
    ("EfficientNet-WideSE-B4", partial(B4, excites_wide=True), 380, (128, 331, 64, 157), (32, 204, 16, 83)),
)
"""Network, side of images in pixels, and speeds on an A100 80GB and a V100 16GB."""

WORKERS: Mapping[str, int] = {"A100 80GB": 16, "V100 16GB": 8}
"""Workers of PyTorch's loader behind these tables (configs.yml of the release of the EfficientNets, 2bdf2775)."""


def steps_held_out() -> Iterator[tuple[str, Step]]:
    """Yield NVIDIA's times of steps, each with the name of its card; to neither card anything was fitted."""
    for name, build, side, on_a100, on_v100 in OF_NVIDIA:
        for card, (batch, per_second, plain_batch, plain_per_second) in (
            ("A100 80GB", on_a100),
            ("V100 16GB", on_v100),
        ):
            plain: Precision = "tf32" if card == "A100 80GB" else "fp32"
            rows: tuple[tuple[Precision, int, int], ...] = (
                ("fp16", batch, per_second),
                (plain, plain_batch, plain_per_second),
            )
            for precision, size, speed in rows:
                yield (
                    card,
                    Step(
                        name=f"{name}, {precision}, batch {size}",
                        training=_classification(build, images=(size, side, side), precision=precision),
                        published_ms=1000 * size / speed,
                        is_fitted=False,
                        per_worker=speed / WORKERS[card],
                    ),
                )


OF_LAMBDA: Mapping[str, Speeds] = {
    "A10": (448, 638, 224, 349),
    "A100 40GB": (720, 1396, 360, 882),
    "A100 80GB": (1280, 1582, 640, 1066),
    "H100 SXM": (1280, 2782, 640, 1893),
    "RTX 3090": (448, 905, 224, 513),
    "RTX 4090": (448, 1301, 224, 721),
    "V100 16GB": (256, 833, 128, 369),
}
"""Speeds of ResNet-50 on synthetic images of 224 x 224 px by card; of the H100, the median of four hosts."""


def steps_on_many_cards() -> Iterator[tuple[str, Step]]:
    """Yield Lambda's times of ResNet-50 on contiguous maps, each with the name of its card."""
    for card, (batch, per_second, plain_batch, plain_per_second) in OF_LAMBDA.items():
        plain: Precision = "fp32" if card == "V100 16GB" else "tf32"
        rows: tuple[tuple[Precision, int, int], ...] = (
            ("fp16", batch, per_second),
            (plain, plain_batch, plain_per_second),
        )
        for precision, size, speed in rows:
            training = _classification(partial(classifiers.resnet, 50), images=(size, 224, 224), precision=precision)
            yield (
                card,
                Step(
                    name=f"{card}, {precision}, batch {size}",
                    training=replace(training, is_channels_last=False),
                    published_ms=1000 * size / speed,
                    is_fitted=False,
                ),
            )


def _classification(
    build: Build,
    *,
    images: tuple[int, int, int],
    precision: Precision,
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
) -> Training:
    """Return the training of a classifier; in half precision its maps are channels-last."""
    return Training(
        build=build,
        loss=classifiers.classifier_loss,
        images=images,
        has_maps=False,
        optimizer=optimizer,
        precision=precision,
        is_channels_last=precision == "fp16",
    )
