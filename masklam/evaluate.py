"""Measures of a trained run: probes in and out of distribution, and returns in the distracted environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distractor_data import schema, sources
from distractor_data.dataset import meta, storage
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS, SYNTHETIC, Import, Spec
from masklam.job import Job, load, need
from masklam.loop import Trainer
from masklam.probes import codes, latents, of_splits
from masklam.rollouts import rollouts
from masklam.run import Run


def check(job: Job) -> None:
    """Raise `DmaskError` now for what the evaluation will lack: the rollouts' videos, a reference that is none."""
    acts = "policy" in job.settings.todo or "policy" in job.finished
    evaluates = acts and "evaluation" in job.settings.todo and job.settings.eval_episodes
    if evaluates and rollout_spec(job) and job.settings.reference:
        reference(job)


def measure(job: Job, device: torch.device) -> dict[str, Any]:
    """All measures of a run, as `results.json` holds them.

    `sees` is the column of the images, in the probes and in the rollouts; `missing` names what was not measured.
    """
    results: dict[str, Any] = {"sees": job.settings.image_column, "missing": []}
    if "lam" in job.finished and not job.acts:
        results["missing"].append("probes: the dataset has no actions, so there is nothing to probe")
    elif "lam" in job.finished:
        results |= probes(job, device)
    if "policy" in job.finished and job.settings.eval_episodes:
        found = returns(job, device)
        results |= found | {"missing": results["missing"] + found["missing"]}
    return results


def evaluate(job: Job, trainer: Trainer) -> None:
    """All measures, into `results.json`."""
    need(job, trainer.run, "policy" if job.method.family == "bc" else "lam")
    if trainer.main:
        trainer.run.save_results(measure(job, trainer.device), job.settings)


# --- probes --------------------------------------------------------------------------------------------------


def probes(job: Job, device: torch.device) -> dict[str, Any]:
    """Tables of probes, all fitted on training episodes, and how a codebook is used.

    `in`: held-out episodes in front of the training videos; `out`: the test split, in front of others.
    """
    results = of_splits(
        lambda frames, t, later: latents(job.model, frames, t, device, later),
        job.frames,
        (job.training, job.held),
        lambda: load(job.settings, "test", job.cache),
        job.settings.seed,
    )
    if (used := codes(job, device)) is not None:
        results["codes"] = used
    return results


# --- returns -------------------------------------------------------------------------------------------------


def returns(job: Job, device: torch.device) -> dict[str, Any]:
    """Returns over rollouts in front of training and of test videos, by number of labelled trajectories.

    The policy sees what it was trained on: with the clean column, an environment without distractors. `normalised` is
    the mean over the mean return of the dataset's own episodes, those of the expert; `normalised_bc` over that of
    `--reference`, behaviour cloning on all true actions in front of the same videos.
    """
    if job.method.latent and "decoder" not in job.finished and job.acts:
        return {"missing": ["returns: the action decoders are not trained"]}
    if (spec := rollout_spec(job)) is None:
        return {"missing": ["returns: which environment the dataset is from is not known"]}
    expert, success = recorded(job, schema.RETURN) or 0.0, recorded(job, schema.SUCCEEDED)
    cloned = reference(job) if job.settings.reference else {}
    found: dict[str, Any] = {}
    for split in SPLITS:
        for budget in job.budgets:

            def act(observation: Tensor, budget: int = budget) -> Tensor:
                return job.model.act(observation, budget)

            each, solved = rollouts(
                act, replace(spec, split=split), job.settings.eval_episodes, job.settings.frame_stack, device
            )
            found.setdefault(split, {})[str(budget)] = {
                "returns": each,
                "normalised": ratio(each, expert),
                **({"normalised_bc": ratio(each, cloned[split])} if cloned else {}),
                **({"solved": solved, "normalised_success": ratio(solved, success)} if solved is not None else {}),
            }
    nothing = [f"the {name} return is {value:g}" for name, value in [("expert's", expert)] if not value > 0]
    nothing += [f"the reference's {split} return is {value:g}" for split, value in cloned.items() if not value > 0]
    return {
        "returns": found,
        "expert_return": expert,
        **({"expert_success": success} if success is not None else {}),
        "training_episodes": len(job.training),
        **({"reference": {"run": Path(job.settings.reference).resolve().name, "returns": cloned}} if cloned else {}),
        "missing": [f"normalised return: {reason}" for reason in nothing],
    }


def ratio(values: Sequence[float], of: float | None) -> float | None:
    """The mean of returns or successes over another; None where there is nothing to divide by."""
    return float(np.mean(values)) / of if of and of > 0 else None


def recorded(job: Job, column: str) -> float | None:
    """Mean of a column of the records of the dataset's own training episodes; None where they lack it."""
    root = sources.locate(job.settings.dataset, job.settings.env, "train", frames=False)
    tables = [storage.read_episodes(root, shard) for shard in storage.shards(root, frames=False)]
    if any(column not in table.column_names for table in tables):
        return None
    return float(np.mean(np.concatenate([table[column].to_numpy() for table in tables])))


def rollout_spec(job: Job) -> Spec | None:
    """The environment of the rollouts: the dataset's, with other seeds, and undistracted for the clean column.

    None where the dataset is of others, or was imported: what stood behind the agent can't be had again.
    """
    if sources.is_foreign(job.settings.dataset):
        return None
    root = sources.locate(job.settings.dataset, job.settings.env, "train", frames=False)
    record = meta.read_spec(root)
    if isinstance(record, Import):
        return None
    if job.settings.image_column == schema.IMAGE_CLEAN:
        record = replace(record, difficulty="clean", backgrounds=SYNTHETIC, backgrounds_digest="")
    return replace(
        record, backgrounds=backgrounds(job, record), clean=False, policy="random", noise=0.0, seed=record.seed + 1
    )


def reference(job: Job) -> dict[str, float]:
    """Mean return by split of the run `--reference`: behaviour cloning on all true actions of the same data.

    Raises `DmaskError` where it is something else.
    """
    run = Run(job.settings.reference)
    results = run.results()
    returns = results.get("returns")
    if not returns or "training_episodes" not in results:
        raise DmaskError(f"--reference {run.folder} holds no returns; give a `bc` run and evaluate it first")
    budgets = {int(budget) for each in returns.values() for budget in each}
    ours = {
        "method": "bc",
        "env": job.settings.env,
        "image_column": job.settings.image_column,
        "data": sources.identify(job.settings.dataset, job.settings.env)["digest"],
        "labelled episodes": {results["training_episodes"]},
    }
    theirs = {**run.settings(), "data": run.dataset()["digest"], "labelled episodes": budgets}
    for name, wanted in ours.items():
        if theirs.get(name) != wanted:
            raise DmaskError(
                f"--reference {run.folder}: its {name} is {theirs.get(name)}, not {wanted}; give behaviour cloning "
                "on all true actions of the same data"
            )
    return {split: float(np.mean([each["returns"] for each in found.values()])) for split, found in returns.items()}


def backgrounds(job: Job, spec: Spec) -> str:
    """The videos of the rollouts: those that the dataset was made with."""
    if spec.difficulty == "clean" or spec.backgrounds == SYNTHETIC:
        return SYNTHETIC
    from distractor_data.envs.backgrounds import open_backgrounds

    if not job.settings.backgrounds:
        raise DmaskError(
            f"rollouts need the videos that the dataset was made with; give --backgrounds {spec.backgrounds}, or "
            "--eval-episodes 0 to skip them"
        )
    if open_backgrounds(job.settings.backgrounds).digest() != spec.backgrounds_digest:
        raise DmaskError(
            f"--backgrounds {job.settings.backgrounds} are not the videos that the dataset was made with"
        )
    return job.settings.backgrounds
