"""What a run is: one dataclass, recorded in `config.json` under `training`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from distractor_data import schema
from distractor_data.device import PRECISIONS
from distractor_data.errors import DmaskError
from distractor_data.spec import DEFAULT_DIR, full_name
from masklam.limits import LIMITS
from masklam.methods import METHODS, find

NORMALISATIONS = ("none", "image", "batch")
SCHEDULES = ("linear", "cosine", "constant")
BUDGETS = (2, 4, 8, 16, 32, 64, 128)


def option(
    default: Any,
    help: str,
    *,
    least: int | None = None,
    choices: tuple[str, ...] = (),
    free: bool = False,
    read: Callable[[str], Any] | None = None,
) -> Any:
    """A setting, with all that the command line says and checks of it.

    `free` ones may change when a run goes on: they decide what is done and shown, not what is learnt. `read` makes
    the value of the option's text.
    """
    return field(
        default=default, metadata={"help": help, "least": least, "choices": choices, "free": free, "read": read}
    )


def words(text: str) -> tuple[str, ...]:
    """`"lam,policy"` → `("lam", "policy")`."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def budgets(text: str) -> tuple[int, ...]:
    """`"2,8,all"` → `(2, 8, 0)`. Raises `DmaskError` for what is no number."""
    try:
        return tuple(0 if word == "all" else int(word) for word in words(text))
    except ValueError as error:
        raise DmaskError(f"{text!r} is no list of whole numbers; give something like 2,8,32 or all") from error


@dataclass(frozen=True)
class Settings:
    """Options of `masklam train`. Zero `offset` and `policy_layers` mean the method's own.

    `labelled_trajectories` are the numbers of whole trajectories with true actions: for methods that see actions
    in their first stage one number, which serves it and the decoder alike; for the others those of their decoders.
    Zero is all training episodes. `label_weight`: LAOM's 0.001 is on raw actions, whose variance is about 35 in its
    data; here errors on actions are divided by their variance, so that 0.001 × 35 = 0.035 weighs as much.
    """

    dataset: str = option(DEFAULT_DIR, "Folder or Hub repository of the dataset", free=True)
    env: str = option("walker-run", "Environment, such as walker-run")
    method: str = option("masklam", " or ".join(", ".join(METHODS).rsplit(", ", 1)))
    stages: tuple[str, ...] = option((), "Of lam,policy,decoder,evaluation; default: all", free=True, read=words)
    seed: int = option(0, "Seed")
    # data
    streaming: bool = option(False, "From the Hub, keeping no shard; each process its own", free=True)
    image_column: str = option(schema.IMAGE, "Column of the images")
    mask_column: str = option("", "Column of the masks; default: the image column's")
    action_column: str = option(schema.ACTION, "Column of the actions, in a dataset of others")
    episode_column: str = option("", "What tells episodes apart in Parquet of others; default: episode_index")
    image_size: int = option(0, "Side of the squares that frames of others become; default: theirs, or 64", least=0)
    mask_corruption: str = option("", "dilate:PIXELS, erode:PIXELS or noise:SHARE")
    held_out: float = option(0.1, "Share of the episodes that only reports see")
    labelled_trajectories: tuple[int, ...] = option(
        (), "Whose actions are seen: 2,8,32 for decoders, one number for other methods, or all", read=budgets
    )
    # model
    latent_dim: int = option(64, "Size of a latent action")
    frame_stack: int = option(1, "Frames an observation holds")
    encoder_scale: int = option(1, "Width of the encoders")
    encoder_deep: bool = option(False, "Five resolutions instead of three")
    res_blocks: int = option(2, "Residual blocks a resolution")
    heads: int = option(256, "Width of LAOM's heads")
    quantize: str = option("", "fsq or vq: LAPO's discrete form", choices=("", "fsq", "vq"))
    policy_scale: int = option(2, "Width of the policy's encoder")
    policy_layers: int = option(0, "Linear layers after it; default: the method's")
    # objective
    offset: int = option(0, "Steps the inverse dynamics looks ahead; default: the method's")
    background_weight: float = option(0.0, "Weight of pixels off the agent")
    mask_blur: float = option(0.0, "Gaussian blur of the masks, in pixels")
    mask_normalise: str = option("none", "Divide by the masks' area: none, image or batch", choices=NORMALISATIONS)
    ema: float = option(0.001, "Rate at which LAOM's target follows")
    label_weight: float = option(0.035, "Weight of the error on true, standardised actions")
    # optimisation
    steps: int = option(10_000, "Gradient steps of the latent action model", least=1)
    policy_steps: int = option(5_000, "Gradient steps of the policy", least=1)
    decoder_steps: int = option(2_500, "Gradient steps of each decoder", least=1)
    batch: int = option(64, "Transitions a step, over all processes", least=1)
    labelled_batch: int = option(128, "Labelled ones beside them, for laom-labels", least=1)
    lr: float = option(1e-3, "Learning rate")
    decoder_lr: float = option(3e-4, "Learning rate of the decoders")
    warmup: float = option(0.3, "Share of --steps in which the learning rate rises")
    schedule: str = option("linear", "How it falls then: linear, cosine or constant", choices=SCHEDULES)
    clip: float = option(0.0, "Largest norm of the gradient; 0 is none")
    precision: str = option("auto", "auto, bf16 or float32", choices=PRECISIONS)
    compile: bool = option(False, "torch.compile", free=True)
    # reports
    probe_every: int = option(2000, "Steps between probes", least=1, free=True)
    checkpoint_every: int = option(500, "Steps between checkpoints", least=1, free=True)
    eval_episodes: int = option(5, "Rollouts a split and budget; 0 skips them", free=True)
    reference: str = option("", "Run of bc on all true actions, to normalise returns by", free=True)
    backgrounds: str = option("", "Videos of the rollouts: those of the dataset", free=True)

    def __post_init__(self) -> None:
        method = find(self.method)
        object.__setattr__(self, "env", full_name(self.env))
        if method.takes("mask_column"):
            object.__setattr__(self, "mask_column", matching(self.image_column, self.mask_column))
        for one in fields(self):
            value, name, rules = getattr(self, one.name), "--" + one.name.replace("_", "-"), one.metadata
            least, most = LIMITS.get(one.name, (0 if isinstance(value, float) else None, None))
            least = least if rules["least"] is None else rules["least"]
            if least is not None and not value >= least:
                raise DmaskError(f"{name} is {value}; give a number of at least {least}")
            if most is not None and value > most:
                raise DmaskError(f"{name} is {value}; give a number of at most {most}")
            if rules["choices"] and value not in rules["choices"]:
                raise DmaskError(f"{name} is {value!r}; choose one of {', '.join(rules['choices'])}")
            if value != one.default and not method.takes(one.name):
                others = ", ".join(other for other, found in METHODS.items() if one.name in found.options)
                raise DmaskError(f"{name} does nothing for {self.method}, only for {others}; leave it out")
        for stage in self.stages:
            if stage not in method.stages:
                raise DmaskError(f"--stages {stage}: {self.method} has the stages {', '.join(method.stages)}")
        if any(budget < 0 for budget in self.labelled_trajectories):
            raise DmaskError("--labelled-trajectories: give numbers of at least 1, such as 2,8,32, or all")
        if method.labels and len(self.labelled_trajectories) > 1:
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
    clean, own = image == schema.IMAGE_CLEAN, schema.mask_of(image)
    if mask and clean != (mask == schema.MASK_CLEAN):
        raise DmaskError(
            f"--mask-column {mask} is of another camera than --image-column {image}; give --mask-column {own}"
        )
    return mask or own


FREE = tuple(one.name for one in fields(Settings) if one.metadata["free"])
