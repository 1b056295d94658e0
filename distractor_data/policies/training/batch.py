"""Many copies of a task in one call of MuJoCo: several times the steps of as many of the suite's environments.

What costs time there is Python, not the simulator. Here `mujoco.rollout` steps all bodies in C, and the suite's own
observation and reward see all of them at once: arrays whose last axis is the copy, in place of one body's numbers.
That works for tasks that ask for no more than their bodies' places, directions, speeds and contacts (`TASKS`).
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from mujoco import rollout
from stable_baselines3.common.vec_env import VecEnv

from distractor_data.envs.base import flatten, to_bounds
from distractor_data.envs.suite import load_task
from distractor_data.policies.evaluate import STEPS

# Tasks, and what each reads of its bodies' places beside sensors, positions and velocities of the joints.
TASKS: dict[str, tuple[str, ...]] = {"cheetah-run": (), "hopper-hop": ("xipos",), "walker-run": ("xpos", "xmat")}
_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
_AXES = {"x": 0, "y": 1, "z": 2, "xx": 0, "xz": 2, "zz": 8}  # of a position, or of a rotation's nine numbers


class Named:
    """Rows of an array by the names that `physics.named.data` gives them; the last axis is the copy."""

    def __init__(self, rows: np.ndarray, names: dict[str, Any]) -> None:
        self.rows, self._names = rows, names

    def __getitem__(self, key: Any) -> np.ndarray:
        if isinstance(key, list):
            return np.concatenate([self[name] for name in key])
        name, *axis = key if isinstance(key, tuple) else (key,)
        row = self.rows[self._names[name]]
        return row[_AXES[axis[0]]] if axis else row


class Bodies:
    """What a task sees in place of its physics: the suite's own methods on the arrays of all copies."""

    def __init__(self, kind: type, state: np.ndarray, named: dict[str, Named], model: Any) -> None:
        self._kind = kind
        self.data = SimpleNamespace(qpos=state[:, 1 : 1 + model.nq].T, qvel=state[:, 1 + model.nq :].T)
        self.named = SimpleNamespace(data=SimpleNamespace(**named))

    def __getattr__(self, name: str) -> Any:
        return functools.partial(getattr(self._kind, name), self)

    def orientations(self) -> np.ndarray:
        """The walker's, (2 (bodies - 1), copies): its own flattens all of an array, the copies with it."""
        rotations = self.named.data.xmat
        pairs = [rotations.rows[1:, _AXES[axis]] for axis in ("xx", "xz")]
        return np.stack(pairs, axis=1).reshape(-1, pairs[0].shape[-1])


class BatchEnv(VecEnv):
    """`count` copies of a task of `TASKS` on flat states, each action in [-1, 1] applied `repeat` times.

    Episodes have the suite's initial states and `steps` control steps; the first ones are cut at random, so that they
    do not all end at once.
    """

    def __init__(self, env: str, count: int, repeat: int, seed: int, steps: int = STEPS) -> None:
        self._task, self._repeat, self._length = load_task(env, seed), repeat, steps // repeat
        self._places = TASKS[env]
        self._physics = self._task.physics
        self._model = self._physics.model.ptr
        self._data = mujoco.MjData(self._model)
        self._body_rows = {self._model.body(index).name: index for index in range(self._model.nbody)}
        sensors = map(self._model.sensor, range(self._model.nsensor))
        self._sensor_rows = {s.name: slice(int(s.adr[0]), int(s.adr[0] + s.dim[0])) for s in sensors}
        self._bounds = self._task.action_spec()
        self._states = np.zeros((count, mujoco.mj_stateSize(self._model, _STATE)))
        self._ages = np.random.default_rng(seed).integers(self._length, size=count)
        self._actions = np.zeros((count, *self._bounds.shape))
        size = flatten(self._task.reset().observation).size
        spaces = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32), gym.spaces.Box(-1, 1, self._bounds.shape)
        super().__init__(count, *spaces)

    def reset(self) -> np.ndarray:
        """Flat states (count, size) of new episodes."""
        return np.stack([self._begin(copy) for copy in range(self.num_envs)])

    def _begin(self, copy: int) -> np.ndarray:
        observation = self._task.reset().observation
        mujoco.mj_getState(self._model, self._physics.data.ptr, self._states[copy], _STATE)
        return flatten(observation)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions (count, size) for `step_wait`."""
        self._actions = to_bounds(actions, self._bounds.minimum, self._bounds.maximum)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Flat states, rewards and ends (count, …) after the step; an episode ends by its length alone."""
        rewards = np.zeros(self.num_envs, np.float32)
        for _ in range(self._repeat):
            bodies = self._step()
            rewards += self._task.task.get_reward(bodies)
        observation = self._task.task.get_observation(bodies)
        states = np.concatenate([np.atleast_2d(observation[key]) for key in sorted(observation)]).T.astype(np.float32)
        self._ages += 1
        ends = self._ages >= self._length
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for copy in np.flatnonzero(ends):
            infos[copy] = {"terminal_observation": states[copy].copy(), "TimeLimit.truncated": True}
            states[copy], self._ages[copy] = self._begin(copy), 0
        return states, rewards, ends, infos

    def _step(self) -> Bodies:
        """One control step of all copies."""
        substeps = self._task._n_sub_steps
        # One physics step more than the task's: its sensors are those of the state that the task's last one reached.
        # Those of forces (touch) stay the last one's, as in the suite.
        control = np.repeat(self._actions[:, None], substeps + 1, axis=1)
        states, sensors = rollout.rollout(self._model, self._data, self._states, control)
        self._states = states[:, substeps - 1].copy()
        seen, forces = sensors[:, substeps], self._model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
        for sensor in np.flatnonzero(forces):
            row = slice(adr := self._model.sensor_adr[sensor], adr + self._model.sensor_dim[sensor])
            seen[:, row] = sensors[:, substeps - 1, row]
        places = {name: np.empty((*getattr(self._data, name).shape, self.num_envs)) for name in self._places}
        for copy, state in enumerate(self._states if places else ()):
            self._data.qpos = state[1 : 1 + self._model.nq]
            mujoco.mj_kinematics(self._model, self._data)
            for name, rows in places.items():
                rows[..., copy] = getattr(self._data, name)
        named = {name: Named(rows, self._body_rows) for name, rows in places.items()}
        named["sensordata"] = Named(seen.T, self._sensor_rows)
        return Bodies(type(self._physics), self._states, named, self._model)

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Copies have no attributes of their own."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Copies have no attributes of their own: raises `AttributeError`."""
        raise AttributeError(f"copies have no {attr_name}")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Copies have no methods of their own: raises `AttributeError`."""
        raise AttributeError(f"copies have no {method_name}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Copies are not wrapped."""
        return [False] * self.num_envs
