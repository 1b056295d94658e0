"""Training: the stages of a method, one after the other, then its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from distractor_data import sources
from distractor_data.dataset import storage
from masklam import card, evaluate
from masklam.job import Job, prepare
from masklam.loop import Trainer
from masklam.run import Run
from masklam.settings import FREE, Settings
from masklam.stages import train_decoder, train_lam, train_policy

STAGES: dict[str, Callable[[Job, Trainer], None]] = {
    "lam": train_lam,
    "policy": train_policy,
    "decoder": train_decoder,
    "evaluation": evaluate.evaluate,
}


def train(settings: Settings, out: str, device: str | None = None, cache: str | None = None) -> dict[str, Any]:
    """Run the stages of a method into the folder `out`; all measures so far.

    Goes on from the last checkpoint of each stage. Started by `torchrun`, every process takes its share of each
    batch. Raises `DmaskError` for bad input, another run's folder, or a loss that is not finite.
    """
    run = Run(out)
    trainer = Trainer(settings, run, device)
    if trainer.main:
        run.check(settings, FREE)
        run.check_dataset(settings.dataset, settings.env)
        card.check(run)
    trainer.accelerator.wait_for_everyone()
    job = prepare(settings, run, trainer.device, cache, (trainer.rank, trainer.world))
    evaluate.check(job)
    if trainer.main:
        run.open(settings)
    with storage.lock(run.folder) if trainer.main else nullcontext():
        if trainer.main:
            run.save_dataset(sources.identify(settings.dataset, settings.env))
        for stage in (each for each in settings.todo if each != "decoder" or job.acts):
            STAGES[stage](job, trainer)
            if trainer.main:
                run.publish(job.model, settings, sorted(job.finished, key=job.model.parts.index))
                card.write_card(run)
            trainer.accelerator.wait_for_everyone()
    return run.results()
