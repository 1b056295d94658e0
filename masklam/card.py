"""The model card: the template of `cards/model.md` filled with a run's configuration and measured numbers."""

from __future__ import annotations

import json
import string
from importlib import resources
from pathlib import Path

from distractor_data import storage
from masklam import report
from masklam.methods import find
from masklam.run import CONFIG, Run


def text(run: Run) -> str:
    """The card of a run as Markdown, with the Hub's YAML header."""
    config = json.loads((run.folder / CONFIG).read_text())
    training = config["training"]
    template = resources.files("cards").joinpath("model.md").read_text()
    return string.Template(template).substitute(
        method=training["method"],
        title=find(training["method"]).title,
        env=training["env"],
        dataset=Path(training["dataset"]).name,
        parts=", ".join(config["parts"]),
        results=report.table(run.results()),
        settings="\n".join(f"| {name} | {value} |" for name, value in training.items() if name != "dataset"),
    )


def write_card(run: Run) -> None:
    """Write the card as the run's `README.md`."""
    with storage.atomic_write(run.folder / "README.md") as temporary:
        temporary.write_text(text(run))
