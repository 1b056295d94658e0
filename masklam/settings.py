"""What a run is: one dataclass, recorded in `config.json` under `training`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from distractor_data import schema
from distractor_data.device import PRECISIONS
from distractor_data.errors import DmaskError
from distractor_data.spec import DEFAULT_DIR, full_name
from masklam.limits import LIMITS
from masklam.methods import METHODS, find

BUDGETS = (2, 4, 8, 16, 32, 64, 128)
# Fields that may change when a run goes on: they decide what is done and shown, not what is learnt.
FREE = (
    "dataset",
    "streaming",
    "stages",
    "eval_episodes",
    "backgrounds",
    "reference",
    "probe_every",
    "checkpoint_every",
    "compile",
)
_POSITIVE = (
    "steps",
    "policy_steps",
    "decoder_steps",
    "batch",
    "latent_dim",
    "frame_stack",
    "encoder_scale",
    "policy_scale",
    "heads",
    "labelled_batch",
    "probe_every",
    "checkpoint_every",
)
_CHOICES = {
    "quantize": ("", "fsq", "vq"),
    "mask_normalise": ("none", "image", "batch"),
    "schedule": ("linear", "cosine", "constant"),
    "precision": PRECISIONS,
}


@dataclass(frozen=True)
class Settings:
    """Options of `masklam train`. Zero `offset` and `policy_layers` mean the method's own.

    `labelled_trajectories` are the numbers of whole trajectories with true actions: for methods that see actions
    in their first stage one number, which serves it and the decoder alike; for the others those of their decoders.
    Zero is all training episodes. `label_weight`: LAOM's 0.001 is on raw actions, whose variance is about 35 in its
    data; here errors on actions are divided by their variance, so that 0.001 × 35 = 0.035 weighs as much.
    """

    dataset: str = DEFAULT_DIR
    env: str = "walker-run"
    method: str = "masklam"
    stages: tuple[str, ...] = ()  # all that the method has
    seed: int = 0
    # data
    streaming: bool = False  # from the Hub: fetch a shard at a time and keep only what is decoded
    image_column: str = schema.IMAGE
    mask_column: str = ""  # the mask that belongs to the image column
    mask_corruption: str = ""  # dilate:PIXELS, erode:PIXELS or noise:SHARE
    held_out: float = 0.1  # share of the training episodes that only reports see
    labelled_trajectories: tuple[int, ...] = ()  # 2, 4, … 128 as far as there are so many, or the last of them
    # model
    latent_dim: int = 64
    frame_stack: int = 1
    encoder_scale: int = 1
    encoder_deep: bool = False
    res_blocks: int = 2
    heads: int = 256
    quantize: str = ""
    policy_scale: int = 2
    policy_layers: int = 0
    # objective
    offset: int = 0
    background_weight: float = 0.0
    mask_blur: float = 0.0
    mask_normalise: str = "none"
    ema: float = 0.001
    label_weight: float = 0.035
    # optimisation
    steps: int = 10_000
    policy_steps: int = 5_000
    decoder_steps: int = 2_500
    batch: int = 64
    labelled_batch: int = 128  # beside each other one, for `laom-labels`
    lr: float = 1e-3
    decoder_lr: float = 3e-4
    warmup: float = 0.3  # share of `steps`; the other stages have none
    schedule: str = "linear"
    clip: float = 0.0
    precision: str = "auto"
    compile: bool = False
    # reports
    probe_every: int = 2000
    checkpoint_every: int = 500
    eval_episodes: int = 5
    reference: str = ""  # folder of an evaluated run of `bc` on all true actions, by whose return others are divided
    backgrounds: str = ""  # the folder that the dataset was made with, where that was not synthetic

    def __post_init__(self) -> None:
        row = find(self.method)
        object.__setattr__(self, "env", full_name(self.env))
        if row.takes("mask_column"):
            object.__setattr__(self, "mask_column", matching(self.image_column, self.mask_column))
        for field in fields(self):
            value, option = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if field.name in _POSITIVE and value < 1:
                raise DmaskError(f"{option} is {value}; give a number of at least 1")
            if field.name in LIMITS and value > LIMITS[field.name][1]:
                raise DmaskError(f"{option} is {value}; give a number of at most {LIMITS[field.name][1]}")
            if isinstance(value, float) and not value >= 0:
                raise DmaskError(f"{option} is {value}; give a number of at least 0")
            if value not in _CHOICES.get(field.name, (value,)):
                raise DmaskError(f"{option} is {value!r}; choose one of {', '.join(_CHOICES[field.name])}")
            if value != field.default and not row.takes(field.name):
                others = ", ".join(name for name, other in METHODS.items() if field.name in other.options)
                raise DmaskError(f"{option} does nothing for {self.method}, only for {others}; leave it out")
        for stage in self.stages:
            if stage not in row.stages:
                raise DmaskError(f"--stages {stage}: {self.method} has the stages {', '.join(row.stages)}")
        if any(budget < 0 for budget in self.labelled_trajectories):
            raise DmaskError("--labelled-trajectories: give numbers of at least 1, such as 2,8,32, or all")
        if row.labels and len(self.labelled_trajectories) > 1:
            raise DmaskError(
                f"--labelled-trajectories: {self.method} learns from one number of them; give one, and to each "
                "number a run of its own"
            )
        if self.warmup > 1:
            raise DmaskError(f"--warmup is {self.warmup}; give the share of --steps, such as 0.3")

    @property
    def todo(self) -> tuple[str, ...]:
        """Stages to run, in order."""
        every = find(self.method).stages
        return tuple(stage for stage in every if not self.stages or stage in self.stages)


def matching(image: str, mask: str) -> str:
    """The column of the masks, by default the one that belongs to the images.

    Raises `DmaskError` for masks of the distracted camera beside images of the undistracted one, or the reverse: in a
    video of humanoid-walk the two agents' masks share a fifth of their union.
    """
    clean = image == schema.IMAGE_CLEAN
    own = schema.MASK_CLEAN if clean else schema.MASK
    if mask and clean != (mask == schema.MASK_CLEAN):
        raise DmaskError(
            f"--mask-column {mask} is of another camera than --image-column {image}; give --mask-column {own}"
        )
    return mask or own


def words(text: str) -> tuple[str, ...]:
    """`"lam,policy"` → `("lam", "policy")`."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def budgets(text: str) -> tuple[int, ...]:
    """`"2,8,all"` → `(2, 8, 0)`. Raises `DmaskError` for what is no number."""
    try:
        return tuple(0 if word == "all" else int(word) for word in words(text))
    except ValueError as error:
        raise DmaskError(f"{text!r} is no list of whole numbers; give something like 2,8,32 or all") from error
