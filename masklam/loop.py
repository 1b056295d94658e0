"""The one loop that every stage runs, and what surrounds it: devices, schedule, checkpoints, logs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from distractor_data.device import uses_bf16
from distractor_data.errors import DmaskError
from masklam.bar import bar
from masklam.objectives import Objective
from masklam.run import Run
from masklam.settings import Settings

LOG_EVERY = 20  # steps; losses leave the device, and are checked, this often


class Trainer:
    """Devices and processes, and the loop."""

    def __init__(self, settings: Settings, run: Run, device: str | None = None) -> None:
        self.settings, self.run = settings, run
        on_cpu = device == "cpu" or not torch.cuda.is_available()
        precision = "bf16" if uses_bf16(settings.precision, "cpu" if on_cpu else "cuda") else "no"
        self.accelerator = Accelerator(mixed_precision=precision, cpu=on_cpu)
        self.device = torch.device(device) if device else self.accelerator.device
        self.main = self.accelerator.is_main_process

    @property
    def rank(self) -> int:
        return self.accelerator.process_index

    @property
    def world(self) -> int:
        return self.accelerator.num_processes

    def fit(
        self,
        stage: str,
        objective: Objective,
        batch: Callable[[int], Any],
        steps: int,
        lr: float,
        warmup: int = 0,
        report: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Minimise `objective(batch(step))` from the last checkpoint on until `steps`, the first of them warming up.

        Adam, for all stages: AdamW without weight decay, which LAOM's code has for policy and decoder, is the same.

        `report(step)` is called every `probe_every` steps and at the end, in the main process.
        """
        settings, run, accelerator = self.settings, self.run, self.accelerator
        learnt = [p for p in objective.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learnt, lr)
        start = saved = run.load_checkpoint(stage, objective, optimizer)
        if start == steps:
            return
        if self.main:
            run.forget(stage, start)
        compiled = torch.compile(objective) if settings.compile else objective
        parallel, prepared = accelerator.prepare(compiled, optimizer)
        losses: list[Tensor] = []
        began = time.perf_counter()
        quiet = not self.main or "TQDM_DISABLE" in os.environ
        for step in bar(range(start, steps), stage, steps, initial=start, unit="step", disable=quiet):
            for group in optimizer.param_groups:
                group["lr"] = lr * schedule(settings.schedule, step, warmup, steps)
            loss = parallel(batch(step))
            prepared.zero_grad()
            accelerator.backward(loss)
            if settings.clip:
                accelerator.clip_grad_norm_(learnt, settings.clip)
            prepared.step()
            objective.after_step()
            losses.append(loss.detach())
            done = step + 1
            if done % LOG_EVERY and done < steps:
                continue
            mean = finite_mean(losses, done, stage, saved)
            rate = settings.batch * len(losses) / (time.perf_counter() - began)
            losses = []
            if self.main:
                run.log(stage=stage, step=done, loss=mean, samples_per_second=round(rate, 1))
                if done == steps or done // settings.probe_every > (done - LOG_EVERY) // settings.probe_every:
                    report(done)
            if done - saved >= settings.checkpoint_every or done == steps:
                saved = done
                if self.main:  # after the report, which a kill in between repeats
                    run.save_checkpoint(stage, done, objective, optimizer)
            began = time.perf_counter()
        accelerator.wait_for_everyone()


def schedule(kind: str, step: int, warmup: int, steps: int) -> float:
    """A factor of the learning rate: linear from zero, then half a cosine or a line down to it, or constant."""
    if step < warmup:
        return step / warmup
    if kind == "constant":
        return 1.0
    progress = (step - warmup) / max(steps - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * progress)) if kind == "cosine" else 1.0 - progress


def finite_mean(losses: list[Tensor], done: int, stage: str, saved: int) -> float:
    """Mean of the last losses. Raises `DmaskError` naming the first step at which one isn't finite."""
    values = torch.stack(losses).float()
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        first = done - len(losses) + int(bad[0]) + 1
        kept = f"the checkpoint of step {saved} is kept" if saved else "there is no checkpoint yet"
        raise DmaskError(
            f"the loss of stage {stage} is not finite from step {first} on; {kept}: start again with a smaller --lr "
            "and another --out"
        )
    return float(values.mean())
