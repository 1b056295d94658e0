"""The features that anybody's card lists, with columns of masks in them."""

from __future__ import annotations

from collections.abc import Mapping

SIZES = ("splits", "download_size", "dataset_size")  # what a copy with more columns makes untrue


def with_masks(text: str, columns: Mapping[str, str]) -> str:
    """The text of a card whose YAML lists the features of image columns, with their masks (image → mask) behind them.

    A card that lists none is left as it is. Raises `ValueError` where its YAML can't be read.
    """
    from huggingface_hub import DatasetCard
    from yaml import YAMLError

    try:
        card = DatasetCard(text, ignore_metadata_errors=False)
    except (YAMLError, RecursionError) as error:
        raise ValueError("its YAML can't be read") from error
    listed = card.data.get("dataset_info")
    changed = False
    for info in listed if isinstance(listed, list) else [listed]:
        features = info.get("features") if isinstance(info, dict) else None
        if not isinstance(features, list):
            continue
        names = {each.get("name") for each in features if isinstance(each, dict)}
        added = [{"name": mask, "dtype": "image"} for image, mask in columns.items() if image in names - {mask}]
        if added:
            info["features"] = [*features, *added]
            for key in SIZES:
                info.pop(key, None)
            changed = True
    return str(card) if changed else text
