"""What a dataset is, and which datasets somebody has, told by records alone: no frame is read or fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distractor_data import schema
from distractor_data.errors import DmaskError
from dmask_cards.dataset import TAGS, Part, commands, mask_source, parts


@dataclass(frozen=True)
class Described:
    """One config and split."""

    config: str
    split: str
    episodes: int
    frames: int
    height: int  # of the images, pixels
    width: int
    bytes: int  # of the files of frames
    mean_return: float | None  # what was not measured is None, here and below
    expert_return: float | None  # of the policy that acted, without distractors
    mask: str  # what made the masks
    coverage: float | None  # share of the pixels
    iou: float | None  # with the simulator's masks
    j_and_f: float | None
    commands: list[str]  # that make the same


@dataclass(frozen=True)
class Listed:
    """A dataset on the Hub, as its card tells."""

    name: str
    configs: list[str]
    frames: int | None
    bytes: int | None
    changed: str  # date
    private: bool


def describe(source: str | Path) -> list[Described]:
    """Every config and split of a folder or of `org/name[@revision]`. Raises `DmaskError` where there is none."""
    if Path(source).is_dir():
        folder = Path(source)
    else:
        from distractor_data.hub import download
        from distractor_data.sources import repository

        folder = download.described(repository(source))
    if not (found := parts(folder)):
        raise DmaskError(f"{source} holds no dataset; make one with `dmask generate --out {source}`")
    return [_describe(part) for part in found]


def _describe(part: Part) -> Described:
    info, record = part.info, part.record
    height, width, _ = info["features"][schema.IMAGE]["shape"]
    return Described(
        config=part.config,
        split=part.split,
        episodes=info["total_episodes"],
        frames=info["total_frames"],
        height=height,
        width=width,
        bytes=part.bytes,
        mean_return=part.mean(schema.RETURN),
        expert_return=record.get("expert_return"),
        mask=mask_source(record["mask"]),
        coverage=part.mean(schema.COVERAGE),
        iou=part.mean(schema.IOU),
        j_and_f=part.mean(schema.J_AND_F),
        commands=commands(part),
    )


def listing(owner: str | None = None) -> list[Listed]:
    """The datasets of a user or an organisation on the Hub that dmask made; without `owner` one's own."""
    from huggingface_hub import get_token

    from distractor_data.hub.patience import hub_errors
    from distractor_data.hub.repository import api_of

    if owner is not None and not re.fullmatch(r"[\w-]+", owner):
        raise DmaskError(f"{owner!r} can't be the name of a user or an organisation; give one such as org")
    api = api_of()
    if owner is None and not get_token():
        raise DmaskError(
            "no Hugging Face token says who you are; run `hf auth login`, or give an owner: dmask list ORG"
        )
    with hub_errors(owner or "your datasets", "list"):
        owner = owner or str(api.whoami()["name"])
        expand: Any = ["cardData", "lastModified", "private"]
        found = list(api.list_datasets(author=owner, filter=TAGS[-1], expand=expand))
    return [_listed(one) for one in found]


def _listed(one: Any) -> Listed:
    card = one.card_data.to_dict() if one.card_data else {}
    told = _records(card.get("dataset_info"))
    (ours,) = _records(card.get("dmask"))[:1] or [{}]
    sizes = {name: value if type(value := ours.get(name)) is int else None for name in ("frames", "bytes")}
    return Listed(
        name=str(one.id),
        configs=[str(info.get("config_name", "default")) for info in told],
        frames=sizes["frames"],
        bytes=sizes["bytes"],
        changed=f"{one.last_modified:%Y-%m-%d}" if one.last_modified else "",
        private=bool(one.private),
    )


def _records(value: Any) -> list[dict[str, Any]]:
    """What of a card's value is a record: the card is a stranger's."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
