"""The card of a repository that holds one config and split: a LeRobotDataset."""

from __future__ import annotations

import json

from distractor_data import schema
from dmask_cards.dataset import PRETTY_NAME, TAGS, TASKS, Part, commands, mask_source, size_category, values_of
from dmask_cards.template import fill


def render(part: Part, name: str, license: str, published: str = "") -> str:
    """The text of the card of the repository `name`; what was hand-written is taken over from the `published` one."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=f"{PRETTY_NAME}: {part.config}, {part.split}",
        license=license,
        tags=TAGS,
        task_categories=TASKS,
        size_categories=[size_category(part.info["total_frames"])],
    )
    files = {"data_files": [{"split": part.split, "path": "data/**/*.parquet"}]}
    MetadataConfigs({"default": files}).to_dataset_card_data(data)
    values = values_of([part], name) | {
        "config": part.config,
        "split": part.split,
        "commands": commands(part),
        "mask": mask_source(part.record["mask"]),
        "picture": (part.root / schema.SHEET).exists(),
        "inputs": json.dumps(policy_inputs(part)),
    }
    return fill("split", data, [(f"{schema.CARD} of {name}", published)], repo_id=name, **values)


def policy_inputs(part: Part) -> dict[str, dict[str, object]]:
    """What LeRobot's `--policy.input_features` is to say, so that no policy takes a mask for a camera."""
    features = part.info["features"]
    height, width, channels = features[schema.IMAGE]["shape"]
    return {
        schema.IMAGE: {"type": "VISUAL", "shape": [channels, height, width]},
        schema.STATE: {"type": "STATE", "shape": features[schema.STATE]["shape"]},
    }
