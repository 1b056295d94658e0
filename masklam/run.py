"""A run folder: configuration, metrics, checkpoints and the published model, each file written whole."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from distractor_data import sources, untrusted
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.spec import SPLITS, full_name
from distractor_data.untrusted import images
from distractor_data.untrusted.values import (
    flag,
    listing,
    mapping,
    matching,
    number,
    optional,
    real,
    record,
    text,
    whole,
)
from masklam import limits
from masklam.limits import CONFIG, VERSION, WEIGHTS
from masklam.measures import PROBES
from masklam.models import Model
from masklam.settings import Settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
RESULTS = "results.json"
PICTURES = "reconstructions"
DATASET = "dataset.json"
_METRICS_BYTES = 64 << 20
_PICTURE_BYTES = 8 << 20
_METRIC = record({"stage": text, "step": whole()}, {"loss": real, "probe_nmse": real})
_PLACES = ("in", "out")
_PROBE = mapping(record({"nmse": number}, {"shuffled": optional(number)}), _PLACES)
_RETURNS = record(
    {"returns": listing(number)},
    {
        "solved": listing(flag),
        **dict.fromkeys(("normalised", "normalised_bc", "normalised_success"), optional(number)),
    },
)
_RESULTS = record(
    {},
    {
        **dict.fromkeys(PROBES, _PROBE),
        "constant": mapping(number, _PLACES),
        "codes": record(dict.fromkeys(("used", "codes", "perplexity", "latents"), number) | {"collapsed": flag}),
        "returns": mapping(mapping(_RETURNS, matching("[0-9]{1,9}", "a number of trajectories")), SPLITS),
        "expert_return": number,
        "expert_success": number,
        "missing": listing(text),
        "settings": mapping(untrusted.anything),
    },
)
_DATASET = record({"name": text, "revision": optional(text), "digest": optional(text)})


class Run:
    """The folder that `masklam train --out` names."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def check(self, settings: Settings, free: tuple[str, ...] = ()) -> None:
        """Raises `DmaskError` where the folder belongs to a run of another configuration.

        Fields in `free` may differ from the earlier call's. Nothing is written: what is asked for may be impossible
        for another reason, and the mended command must find the folder free.
        """
        now = _plain(settings)
        path = self.folder / CONFIG
        if path.exists():
            config = limits.read_config(self.folder)
            limits.check_version(self.folder, config.get("version"))
            then = config.get("training", {})
            then |= {"env": full_name(then["env"])} if "env" in then else {}  # older versions kept a short name
            plain = _plain(Settings())  # a field that an older version lacked had its default
            differing = [k for k in now if k not in free and then.get(k, plain[k]) != now[k]]
            if differing:
                field = differing[0]
                was = then.get(field, plain[field])
                raise DmaskError(
                    f"{self.folder} holds a run with {field} = {was!r}, not {now[field]!r}; "
                    "choose another --out, or give the same options to go on with it"
                )

    def check_dataset(self, source: str, env: str) -> None:
        """Raises `DmaskError` where a run that was begun on other data would go on with this."""
        if not (self.folder / DATASET).exists():
            return
        then, now = self.dataset(), sources.identify(source, env)
        if then["digest"] != now["digest"]:
            name = then["name"] if then["name"] != now["name"] else f"{then['name']} as it was then"
            raise DmaskError(
                f"{self.folder} was trained on other data ({name}) than --dataset {source} holds now; choose another "
                "--out, or give the same data to go on with it"
            )

    def open(self, settings: Settings) -> None:
        """Begin the run, or go on with one that `check` let pass."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / CONFIG).exists():
            self._configure({}, settings)

    def log(self, **record: Any) -> None:
        """Append one line to `metrics.jsonl`."""
        with open(self.folder / METRICS, "a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if isinstance(value, float):
                self.tensorboard.add_scalar(f"{record['stage']}/{name}", value, record["step"])

    def metrics(self) -> list[dict[str, Any]]:
        """All lines of `metrics.jsonl`; a last line cut short by a kill is left out."""
        path = untrusted.inside(self.folder, METRICS)
        if not path.exists():
            return []
        with untrusted.opened(path) as file:
            lines = file.read(_METRICS_BYTES).split(b"\n")
        return [untrusted.parse(line, f"{path}, line {n}", _METRIC) for n, line in enumerate(lines[:-1], 1) if line]

    def forget(self, stage: str, after: int) -> None:
        """Drop what a stage logged after step `after`, because it will be logged again."""
        kept = [m for m in self.metrics() if m.get("stage") != stage or m["step"] <= after]
        with storage.atomic_write(self.folder / METRICS) as temporary:
            temporary.write_text("".join(json.dumps(m) + "\n" for m in kept))

    def save_checkpoint(self, stage: str, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Weights and optimizer state of a stage, as one safetensors file."""
        tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        path = self.folder / "checkpoints" / f"{stage}.safetensors"
        path.parent.mkdir(exist_ok=True)
        _save(path, tensors, {"stage": stage, "step": str(step)})

    def load_checkpoint(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore a stage; the number of steps it has done, 0 where there is no checkpoint."""
        path = untrusted.inside(self.folder, f"checkpoints/{stage}.safetensors")
        if not path.exists():
            return 0
        tensors, step = _load(path)
        own = {f"module.{k}": v.shape for k, v in module.state_dict().items()}
        state = _optimizer_state(tensors, [p for group in optimizer.param_groups for p in group["params"]])
        if state is None or own != {k: v.shape for k, v in tensors.items() if not k.startswith("optimizer.")}:
            raise DmaskError(f"{path} is of another model; remove it to train the stage anew")
        module.load_state_dict({k[7:]: tensors[k] for k in own})
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return step

    def restore(self, stage: str, steps: int, module: nn.Module) -> bool:
        """Load the trained network of a stage; False where it isn't finished."""
        path = untrusted.inside(self.folder, f"checkpoints/{stage}.safetensors")
        if not path.exists():
            return False
        tensors, step = _load(path)
        names = [f"module.{name}." for name in ("lam", "network")]
        found = {k.removeprefix(n): v for n in names for k, v in tensors.items() if k.startswith(n)}
        if step < steps:
            return False
        try:
            module.load_state_dict(found)
        except RuntimeError as error:
            raise DmaskError(f"{path} is of another model; remove it to train the stage anew") from error
        return True

    def publish(self, model: Model, settings: Settings, parts: list[str]) -> None:
        """Write `model.safetensors` and `config.json` with the parts that are trained."""
        weights = {k: v for k, v in model.state_dict().items() if k.split(".")[0] in (*parts, "standard")}
        _save(self.folder / WEIGHTS, weights, {"format": "pt"})
        self._configure({**(model._hub_mixin_config or {}), "parts": parts}, settings)  # type: ignore[dict-item]

    def _configure(self, model: dict[str, Any], settings: Settings) -> None:
        storage.write_json(self.folder / CONFIG, {"version": VERSION, **model, "training": _plain(settings)})

    def save_results(self, results: dict[str, Any], settings: Settings) -> None:
        """Write `results.json`, with the settings that it was measured under."""
        storage.write_json(self.folder / RESULTS, {**results, "settings": _plain(settings)})

    def done(self, settings: Settings) -> bool:
        """Whether the evaluation of exactly these settings is there."""
        return self.results().get("settings") == _plain(settings)

    def settings(self) -> dict[str, Any]:
        """The settings that the run was made with."""
        return self.config()["training"]

    def config(self) -> dict[str, Any]:
        """`config.json`: the settings, and the model's where it is trained. Raises `DmaskError` without settings."""
        found = limits.read_config(self.folder)
        if "training" not in found:
            raise DmaskError(f"{self.folder / CONFIG} has no settings of a training; train the run again")
        return found

    def results(self) -> dict[str, Any]:
        """Final measures; before the stage `evaluation`, the last probe."""
        path = untrusted.inside(self.folder, RESULTS)
        if path.exists():
            return untrusted.read_json(path, _RESULTS)
        probes = [m for m in self.metrics() if "probe_nmse" in m]
        return {"linear_probe": {"in": _probe(probes[-1])}} if probes else {}

    def save_dataset(self, record: dict[str, Any]) -> None:
        """Write `dataset.json`: the data's name, its revision on the Hub, a digest of its content."""
        storage.write_json(self.folder / DATASET, record)

    def dataset(self) -> dict[str, Any]:
        """What the run was trained on."""
        path = untrusted.inside(self.folder, DATASET)
        if path.exists():
            return untrusted.read_json(path, _DATASET)
        source = self.settings().get("dataset", "")
        return {"name": Path(source).name, "revision": None, "digest": None}

    def picture(self, step: int, image: Tensor) -> None:
        """Show (H, W, 3) uint8 in TensorBoard, write it as `reconstruction.png`, and keep it for `pictures`."""
        self.tensorboard.add_image("reconstruction", image, step, dataformats="HWC")
        (self.folder / PICTURES).mkdir(exist_ok=True)
        encoded = io.BytesIO()
        Image.fromarray(image.numpy()).save(encoded, "PNG")
        for name in ("reconstruction.png", f"{PICTURES}/{step:07d}.png"):
            with storage.atomic_write(self.folder / name) as temporary:
                temporary.write_bytes(encoded.getvalue())

    def pictures(self, most: int) -> dict[int, bytes]:
        """Step → what `picture` showed then, encoded; `most` of them, spread over the training.

        Raises `DmaskError` where one is no picture, or of another size than the others.
        """
        folder = untrusted.folder(self.folder, PICTURES)
        steps = sorted(int(path.stem) for path in folder.glob("*.png") if re.fullmatch("[0-9]{7,12}", path.stem))
        steps = [steps[len(steps) * k // most] for k in range(most)] if len(steps) > most else steps
        found = {}
        for step in steps:
            with untrusted.opened(untrusted.inside(self.folder, f"{PICTURES}/{step:07d}.png")) as file:
                found[step] = file.read(_PICTURE_BYTES)
        if found:
            with untrusted.damage(folder, "remove it"):
                images.check(list(found.values()))
        return found

    @functools.cached_property
    def tensorboard(self) -> SummaryWriter:
        """Where scalars and pictures go, beside `metrics.jsonl`."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"))


def _probe(metrics: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("probe_"): v for k, v in metrics.items() if k.startswith("probe_")}


def _load(path: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors of a checkpoint and the step it was written at."""
    untrusted.opened(path).close()
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["step"])  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DmaskError(f"{path} is no checkpoint; remove it to train the stage anew") from error


def _optimizer_state(tensors: dict[str, Tensor], parameters: list[Tensor]) -> dict[int, dict[str, Tensor]] | None:
    """Adam's state by number of the parameter, of those that had a gradient; None where it is of other parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(parameters):
        shapes = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        found = {key: tensors.get(f"optimizer.{index}.{key}") for key in shapes}
        held = {key: tensor for key, tensor in found.items() if tensor is not None}
        if held:
            if {key: tensor.shape for key, tensor in held.items()} != shapes:
                return None
            state[index] = held
    named = {f"optimizer.{index}.{key}" for index, held in state.items() for key in held}
    return state if named == {name for name in tensors if name.startswith("optimizer.")} else None


def _plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON gives them back (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with storage.atomic_write(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)
