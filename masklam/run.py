"""A run folder: configuration, metrics, checkpoints and the published model, each file written whole."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from distractor_data.errors import DmaskError
from masklam.models import Model

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"


class Run:
    """The folder that `masklam train --out` names."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def open(self, settings: Any, free: tuple[str, ...] = ()) -> None:
        """Begin the run or go on with it. Fields in `free` may differ from the earlier call's.

        Raises `DmaskError` where the folder belongs to a run of another configuration.
        """
        now = _plain(settings)
        path = self.folder / CONFIG
        if path.exists():
            then = json.loads(path.read_text()).get("training", {})
            differing = [k for k in now if k not in free and then.get(k) != now[k]]
            if differing:
                field = differing[0]
                raise DmaskError(
                    f"{self.folder} holds a run with {field} = {then.get(field)!r}, not {now[field]!r}; "
                    "choose another --out, or give the same options to go on with it"
                )
        self.folder.mkdir(parents=True, exist_ok=True)

    def configure(self, model: Model, settings: Any) -> None:
        """Write `config.json`: the model's arguments, and under `training` how it is trained."""
        record = {**(model._hub_mixin_config or {}), "training": _plain(settings)}  # type: ignore[dict-item]
        write(self.folder / CONFIG, json.dumps(record, indent=2) + "\n")

    def log(self, **record: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        with open(self.folder / METRICS, "a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`; a last line cut short by a kill is left out."""
        path = self.folder / METRICS
        lines = path.read_text().split("\n") if path.exists() else []
        return [json.loads(line) for line in lines[:-1] if line]

    def forget(self, stage: str, after: int) -> None:
        """Drop what a stage logged after step `after`, because it will be logged again."""
        kept = [m for m in self.metrics() if m.get("stage") != stage or m["step"] <= after]
        write(self.folder / METRICS, "".join(json.dumps(m) + "\n" for m in kept))

    def save_checkpoint(
        self, stage: str, step: int, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Weights and optimizer state of a stage, as one safetensors file."""
        tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        path = self.folder / "checkpoints" / f"{stage}.safetensors"
        path.parent.mkdir(exist_ok=True)
        _save(path, tensors, {"stage": stage, "step": str(step)})

    def load_checkpoint(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore a stage; the number of steps it has done, 0 where there is no checkpoint."""
        path = self.folder / "checkpoints" / f"{stage}.safetensors"
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                step = int(file.metadata()["step"])
            module.load_state_dict({k[7:]: v for k, v in tensors.items() if k.startswith("module.")})
        except (SafetensorError, RuntimeError) as error:
            raise DmaskError(
                f"{path} is no checkpoint of this model; remove it to train the stage anew"
            ) from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return step

    def save_model(self, model: Model) -> None:
        """Write `model.safetensors`, which `Model.from_pretrained` reads."""
        _save(self.folder / WEIGHTS, model.state_dict(), {"format": "pt"})


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON gives them back (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
