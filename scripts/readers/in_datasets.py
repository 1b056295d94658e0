"""Run where a version of `datasets` is installed: it reads a folder, of which each argument names an image column.

python in_datasets.py DIR COLUMN …
"""

from __future__ import annotations

import sys
import tempfile

from datasets import Image, load_dataset


def main(folder: str, columns: list[str]) -> None:
    with tempfile.TemporaryDirectory() as cache:
        dataset = load_dataset(folder, split="train", cache_dir=cache)
        for column in columns:
            assert isinstance(dataset.features[column], Image)
            assert dataset[0][column].size == dataset[len(dataset) - 1][column].size
        streamed = load_dataset(folder, split="train", streaming=True)
        assert next(iter(streamed))[columns[0]].size == dataset[0][columns[0]].size
    print(f"{len(dataset)} rows; {', '.join(columns)} are images, streamed too")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
