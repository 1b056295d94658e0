"""Measures of a trained run: probes in and out of distribution, and returns in the distracted environment."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distractor_data import dataset, meta, storage
from distractor_data.engines import cores
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS, SYNTHETIC, Spec, full_name
from masklam import probe, stages
from masklam.data import Frames, normalise
from masklam.stages import Job

GRID = 4  # the background's motion is measured on so many cells a side


def measure(job: Job, device: torch.device) -> dict[str, Any]:
    """All measures of a run, as `results.json` holds them."""
    results: dict[str, Any] = {}
    if "lam" in job.finished:
        results |= probes(job, device)
    if "policy" in job.finished and job.settings.eval_episodes:
        results |= returns(job, device)
    return results


# --- probes --------------------------------------------------------------------------------------------------


def probes(job: Job, device: torch.device) -> dict[str, Any]:
    """Linear, MLP and background probes, all fitted on training episodes.

    `in`: held-out episodes in front of the training videos; `out`: the test split, in front of others.
    """
    fit = stages.fitting(job)
    z, action = stages.latents(job.model, job.frames, fit, device), job.frames.action[fit]
    fitted: dict[str, Callable[[Tensor], Tensor]] = {
        "linear_probe": probe.fit(z, action, job.frames.episode[fit]),
        "mlp_probe": probe.fit_mlp(z, action, job.settings.seed),
    }
    masked = job.frames.mask is not None
    if masked:
        motion = background_motion(job.frames, fit)
        fitted["background_probe"] = probe.fit(z, motion, job.frames.episode[fit])
    places = {"in": (job.frames, job.frames.transitions(job.held))}
    if has_split(job, "test"):
        test = stages.load(job.settings, "test", job.cache)
        places["out"] = (test, test.transitions())
    results: dict[str, Any] = {name: {} for name in fitted}
    for place, (frames, t) in places.items():
        z = stages.latents(job.model, frames, t, device)
        for name, predict in fitted.items():
            goal = background_motion(frames, t) if name == "background_probe" else frames.action[t]
            results[name][place] = probe.nmse(predict(z.to(job.frames.image.device)).to(goal.device), goal)
    return results


def has_split(job: Job, split: str) -> bool:
    """Whether the dataset has a split of the run's environment."""
    try:
        dataset.locate(job.settings.dataset, full_name(job.settings.env), split, frames=False)
    except DmaskError:
        return False
    return True


def background_motion(frames: Frames, t: Tensor) -> Tensor:
    """How the grey value off the agent changes from t to t + 1, by cells of a grid; (M,) → (M, 16)."""
    found = []
    for index in t.split(1024):
        change = (frames.observations(index + 1) - frames.observations(index)).mean(1, keepdim=True)
        off = (1 - frames.masks(index)) * (1 - frames.masks(index + 1))
        share = F.adaptive_avg_pool2d(off, GRID).clamp(min=1e-3)
        found.append((F.adaptive_avg_pool2d(change * off, GRID) / share).flatten(1))
    return torch.cat(found)


# --- returns -------------------------------------------------------------------------------------------------


def returns(job: Job, device: torch.device) -> dict[str, Any]:
    """Returns over rollouts in front of training and of test videos, by number of labelled trajectories.

    `normalised` is the mean over the mean return of the dataset's own episodes, those of the expert.
    """
    root = dataset.locate(job.settings.dataset, full_name(job.settings.env), "train", frames=False)
    record = Spec.from_json(meta.read_record(root)["spec"])
    spec = replace(record, backgrounds=backgrounds(job, record), policy="random", noise=0.0, seed=record.seed + 1)
    shards = storage.shards(root, frames=False)
    expert = float(np.mean(np.concatenate([storage.read_episodes(root, shard)["return"] for shard in shards])))
    if job.row.latent and "decoder" not in job.finished:
        return {}
    found: dict[str, Any] = {}
    for split in SPLITS:
        for budget in job.budgets:

            def act(observation: Tensor, budget: int = budget) -> Tensor:
                return job.model.act(observation, budget)

            each = rollouts(
                act, replace(spec, split=split), job.settings.eval_episodes, job.settings.frame_stack, device
            )
            normalised = float(np.mean(each)) / expert
            found.setdefault(split, {})[str(budget)] = {"returns": each, "normalised": normalised}
    return {"returns": found, "expert_return": expert}


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


@torch.no_grad()
def rollouts(
    act: Callable[[Tensor], Tensor], spec: Spec, episodes: int, stack: int, device: torch.device
) -> list[float]:
    """Returns of episodes 0 … episodes - 1 of a spec.

    The environments run in one process each, as many at a time as there are cores, in step with each other; one
    forward of the policy serves them all.
    """
    together = min(episodes, cores())
    context = multiprocessing.get_context("spawn")
    workers = []
    for slot in range(together):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, spec, range(slot, episodes, together)), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours))
    totals = [0.0] * episodes
    live = {slot: (pipe, deque[np.ndarray](maxlen=stack)) for slot, (_, pipe) in enumerate(workers)}
    try:
        while live:
            for slot in list(live):
                pipe, seen = live[slot]
                message = pipe.recv()
                if isinstance(message, DmaskError):
                    raise message
                if message is None:
                    del live[slot]
                    continue
                episode, image, reward, first = message
                totals[episode] += reward
                seen.extend([image] * stack if first else [image])
            if live:
                images = np.stack([np.concatenate(list(seen), axis=2) for _, seen in live.values()])
                pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
                actions = act(normalise(pixels)).float().cpu().numpy()
                for (pipe, _), action in zip(live.values(), actions, strict=True):
                    pipe.send(action)
    except EOFError as error:
        raise DmaskError("an environment of the evaluation ended by itself; see the lines above") from error
    finally:
        for process, pipe in workers:
            pipe.close()
            process.join(timeout=5)
            process.terminate()
    return totals


def _serve(pipe: Connection, spec: Spec, episodes: range) -> None:
    """In a process of its own: play episodes, sending (episode, image, reward, whether it is the first)."""
    from distractor_data import envs

    try:
        for episode in episodes:
            env = envs.make(spec, episode)
            observation, reward, done, first = env.reset(), 0.0, False, True
            while True:
                pipe.send((episode, observation.image, reward, first))
                action = pipe.recv()
                if done:
                    break
                observation, reward, done = env.step(action)
                first = False
            env.close()
        pipe.send(None)
    except DmaskError as error:
        pipe.send(error)
    except (EOFError, BrokenPipeError):
        return  # the evaluation has ended
