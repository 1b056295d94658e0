"""A policy in the environments: in step with each other, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distractor_data.engines import cores
from distractor_data.errors import DmaskError
from distractor_data.spec import Spec
from masklam.data import normalise


class Played(NamedTuple):
    """What came of episodes, one value each."""

    returns: list[float]
    solved: list[bool] | None  # whether the task was solved at some step; None where it has no such measure


@torch.no_grad()
def rollouts(act: Callable[[Tensor], Tensor], spec: Spec, episodes: int, stack: int, device: torch.device) -> Played:
    """Play episodes 0 … episodes - 1 of a spec.

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
    totals, solved = [0.0] * episodes, [False] * episodes
    measured = True
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
                episode, image, reward, success, first = message
                totals[episode] += reward
                solved[episode] |= success is True
                measured &= success is not None
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
    return Played(totals, solved if measured else None)


def _serve(pipe: Connection, spec: Spec, episodes: range) -> None:
    """In a process of its own: play episodes, sending (episode, image, reward, success, whether it is the first)."""
    from distractor_data import envs

    try:
        for episode in episodes:
            env = envs.make(spec, episode)
            observation, reward, done, first = env.reset(), 0.0, False, True
            while True:
                pipe.send((episode, observation.image, reward, env.success, first))
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
