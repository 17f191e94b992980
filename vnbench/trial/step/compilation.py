"""torch.compile of a network or a pass for canvases of any size, so that equal trials pay the same for it."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # noqa: F401  # imported before its parts are asked for by name
from torch import Tensor, nn

from vnbench.records.spec.precisions import PRECISIONS
from vnbench.records.spec.words import Precision

MAX_GRAPHS = 16
"""Graphs that a trial may compile. Sizes are symbols in a graph, so one serves nearly all canvases; a batch of one
example has its own, and so have canvases so small that torch takes other kernels. Past its limit torch would go on
without compilation and say nothing; here the trial fails."""


HOW: dict[str, Any] = {"fullgraph": True, "dynamic": True, "options": {"layout_optimization": False}}
"""How all is compiled. A part that cannot be is an error (fullgraph), not a part that runs uncompiled. Without
layout_optimization=False torch 2.13 lays maps out channels-last on the CPU, and makes their sizes constants."""

LossOfPass = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes images, targets and valid pixels and returns the sum of their losses."""


def compile_model(model: nn.Module, *, precision: Precision, device: torch.device) -> None:
    """Make calls of ``model`` run compiled, from the next one on; its parameters and their names stay as they are.

    This sets torch's compiler up for the whole process. Each process compiles anew and in itself: what an earlier trial
    left in a cache would make equal trials differ, and compiling processes would stay beside the one that is measured.

    Raises:
        RuntimeError: the CPU's kernels are compiled from C++, and there is no compiler.
    """
    _prepare(precision, device=device)
    model.compile(**HOW)


def compile_pass(loss_of_pass: LossOfPass, *, precision: Precision, device: torch.device) -> LossOfPass:
    """Return a pass forward, loss included, compiled as one: passes over pixels that meet at its edge become one.

    It sets torch's compiler up as ``compile_model`` does, and raises as that does.
    """
    _prepare(precision, device=device)
    compiled: LossOfPass = torch.compile(loss_of_pass, **HOW)
    return compiled


def _prepare(precision: Precision, *, device: torch.device) -> None:
    _use_own_cache()
    _set_up_compiler(precision)
    if device.type == "cpu":
        _check_for_cpp_compiler()
    _keep_sizes_symbolic()


def _use_own_cache() -> None:
    """Point the compiler's caches to an empty directory; a trial's own is removed with its log.

    Raises:
        RuntimeError: nothing in the temporary folder may be run.
    """
    directory = tempfile.mkdtemp(prefix="vnbench-compile-")
    if os.statvfs(directory).f_flag & os.ST_NOEXEC:
        raise RuntimeError(
            f"--compile needs a temporary folder from which programs may be run, and that of {directory} is mounted "
            "noexec: name another in TMPDIR, or write --compile none"
        )
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = directory
    os.environ["TRITON_CACHE_DIR"] = os.path.join(directory, "triton")


def _set_up_compiler(precision: Precision) -> None:
    dynamo_config: Any = importlib.import_module("torch._dynamo.config")
    dynamo_config.recompile_limit = MAX_GRAPHS
    dynamo_config.fail_on_recompile_limit_hit = True
    dynamo_config.suppress_errors = False
    # Constants of our modules are none of the compiler's symbols. With them, two checkpointed stages that use the same
    # one do not compile together (torch 2.13: "lift_tracked_freevar_to_input should not be called on root").
    dynamo_config.specialize_float = True
    inductor_config: Any = importlib.import_module("torch._inductor.config")
    inductor_config.compile_threads = 1
    if PRECISIONS[precision].fp32_products == "tf32":
        # The compiler reads the older name of the setting too, and torch 2.11 and 2.13 raise if the two disagree. The
        # older name speaks for oneDNN as well, which is put back.
        onednn: Any = torch.backends.mkldnn
        onednn_precision = onednn.matmul.fp32_precision
        torch.set_float32_matmul_precision("high")
        onednn.matmul.fp32_precision = onednn_precision


def _check_for_cpp_compiler() -> None:
    cpp_builder: Any = importlib.import_module("torch._inductor.cpp_builder")
    try:
        cpp_builder.get_cpp_compiler()
    except Exception as error:
        raise RuntimeError(
            "--compile on the CPU needs a C++ compiler, and none was found: "
            "install g++ or name one in CXX, or write --compile none"
        ) from error


def _keep_sizes_symbolic() -> None:
    """Lower the gradient of a convolution as torch 2.11 does, to a call of the library with sizes that stay symbols.

    torch 2.13 decides between that call and kernels of its own (not made unless asked for), and for this turns the
    sizes of each canvas into constants: each would be compiled anew, a minute or more.
    """
    lowering: Any = importlib.import_module("torch._inductor.lowering")
    if hasattr(importlib.import_module("torch._inductor.kernel.conv"), "convolution_backward_lowering"):
        lowering.make_fallback(torch.ops.aten.convolution_backward, lowering.constrain_to_fx_strides, warn=False)
