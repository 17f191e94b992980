"""A callback for Lightning's Trainer that leaves records of a run: what each epoch's steps took, and on what.

::

    from vnbench.loops.observing.lightning import VnbenchCallback

    Trainer(callbacks=[VnbenchCallback("run.jsonl", sizes=lambda batch: batch["sizes"])], use_distributed_sampler=False)

``vnbench plan run.jsonl``, ``fit``, ``report`` and ``gate`` read them. It logs nothing and waits for the device once an
epoch. A callback is called by the Trainer of ``lightning`` and of ``pytorch_lightning`` alike.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from vnbench.errors import InputError
from vnbench.loops.audit import Watched, watch
from vnbench.loops.observing.frameworks import imported_framework
from vnbench.loops.observing.keys import RunKeys, bare, device_of, facts_of, network_id, network_name, precision_now
from vnbench.loops.observing.passes import Sizes
from vnbench.loops.observing.run import ObservedRun
from vnbench.records.audit_reading import Finding
from vnbench.records.record import Cause
from vnbench.records.spec.words import Precision

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    Callback = imported_framework().Callback

PRECISIONS: dict[str, Precision] = {"bf16": "bf16", "16-": "fp16"}
"""Precision of convolutions by the start of Lightning's word; others are those of the parameters."""


class VnbenchCallback(Callback):
    """Leaves a record of kind ``observed`` at the end of each training epoch. The first rank writes.

    ``findings`` holds what an audit found, if one was asked for.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        sizes: Sizes | str | None = None,
        warm_up_steps: int = 10,
        audit_steps: int = 0,
        model: str | None = None,
    ) -> None:
        """Take where records go, and what the batches do not tell.

        ``sizes`` returns the height and width of each image of a batch before padding, (B, 2), or is ``"canvas"`` where
        nothing is padded; without it, batches have an attribute ``sizes_B2``. The first ``warm_up_steps`` optimizer
        steps are marked, and do not count. The first ``audit_steps`` are audited too (vnbench.loops.audit), and do not
        count either; where they break the contract of a loop, the records say so. ``model`` names the network, instead
        of the file and class of the module.
        """
        super().__init__()
        if warm_up_steps < 0 or audit_steps < 0:
            raise InputError(
                "warm_up_steps, audit_steps",
                f"{warm_up_steps}, {audit_steps}",
                allowed="neither is negative",
                remedy="write warm_up_steps=10, audit_steps=0",
            )
        self.findings: tuple[Finding, ...] = ()
        self._out, self._sizes, self._model = out, sizes, model
        self._warm_up_steps, self._audit_steps = warm_up_steps, audit_steps
        self._run: ObservedRun | None = None
        self._hooks: list[Any] = []
        self._audit: Watched | None = None
        self._num_updates = self._num_tries = 0
        self._left_s: float | None = None

    # The run.

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the results file, and begin to watch the optimizers."""
        if not trainer.is_global_zero:
            return
        loader = trainer.train_dataloader
        device = device_of(pl_module)
        network = bare(pl_module)
        keys = RunKeys(
            model=network_name(network, self._model),
            model_id=network_id(network),
            device=device,
            precision=_precision(str(trainer.precision), pl_module, device),
            loader=facts_of(loader),
            loop="lightning-automatic" if pl_module.automatic_optimization else "lightning",
            ranks=trainer.world_size,
            num_warm_up_steps=self._warm_up_steps,
        )
        self._run = ObservedRun(
            self._out, keys=keys, sizes=self._sizes, framework=f"lightning {imported_framework().__version__}"
        )
        if pl_module.automatic_optimization and trainer.accumulate_grad_batches > 1:
            self._run.expected_passes = trainer.accumulate_grad_batches
        for optimizer in trainer.optimizers:
            self._hooks.append(optimizer.register_step_post_hook(self._after_step))
        if self._audit_steps:
            self._run.num_unmeasured = self._audit_steps
            self._audit = watch(*trainer.optimizers, steps=self._audit_steps)
            self._audit.__enter__()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin an epoch."""
        if self._run is not None:
            self._begin_epoch(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Append the epoch's record."""
        if self._run is not None:
            self._run.end_epoch()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the results file."""
        self._close(has_failed=False)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Keep what was seen of a run that failed or was interrupted."""
        self._close(has_failed=True)

    # Passes.

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note that a batch is there, on its device."""
        run = self._run
        if run is None:
            return
        if not run.is_in_epoch:  # a run that goes on within an epoch tells of no start
            self._begin_epoch(trainer)
        with run.own_time():
            run.fetched(batch)
            self._num_updates = self._num_tries = 0

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Note the start of a backward pass."""
        if self._run is not None:
            with self._run.own_time():
                self._run.clock.before_backward()

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Note the end of a backward pass."""
        if self._run is not None:
            with self._run.own_time():
                self._run.clock.after_backward()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        """Note that an update is tried; the gradient scaler may skip it."""
        self._num_tries += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the end of a pass, and whether it ended a step."""
        run = self._run
        if run is None:
            return
        with run.own_time():
            run.end_pass(
                has_stepped=self._num_updates > 0,
                is_skipped=self._num_tries > 0 and self._num_updates == 0,
                loss=_loss(outputs, run.expected_passes),
            )
        if self._audit is not None and self._audit.num_steps >= self._audit_steps:
            self._end_audit(has_failed=False)

    def _after_step(self, optimizer: Optimizer, arguments: Any, named: Any) -> None:
        self._num_updates += 1

    # What comes between passes.

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock."""
        self._left_s = None if self._run is None else self._run.now_s()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Let the clock go on."""
        if self._run is not None and self._left_s is not None:
            self._run.leave_out(self._run.now_s() - self._left_s, "validation")
            self._left_s = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note that a snapshot is saved."""
        if self._run is not None:
            self._run.clock.note_snapshot()

    # Inner parts.

    def _begin_epoch(self, trainer: Any) -> None:
        assert self._run is not None
        self._run.begin_epoch(trainer.current_epoch, loader=trainer.train_dataloader)

    def _end_audit(self, *, has_failed: bool) -> None:
        audit, self._audit = self._audit, None
        if audit is None:
            return
        audit.end(has_failed=has_failed)
        self.findings = audit.findings
        if self._run is not None and self.findings:
            codes = ", ".join(dict.fromkeys(one.code for one in self.findings))
            detail = "\n".join(one.line() for one in self.findings)
            self._run.cause = Cause(kind="broken-loop", message=codes, detail=detail)
            warnings.warn(f"vnbench: this loop breaks its contract\n{detail}", stacklevel=2)

    def _close(self, *, has_failed: bool) -> None:
        run, self._run = self._run, None
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if run is None:
            return
        self._run = run
        self._end_audit(has_failed=has_failed)
        self._run = None
        run.close()


def _precision(word: str, network: Any, device: torch.device) -> Precision:
    """Return the precision that the Trainer runs in, which on the CPU may not be the one that was asked for."""
    told = next((precision for start, precision in PRECISIONS.items() if word.startswith(start)), None)
    return told or precision_now(network, device)


def _loss(outputs: Any, divided_by: int | None) -> Any:
    """Return the loss of a pass as training_step told it; None where it told none."""
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if loss is None or not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    return loss.detach() * (divided_by or 1)
