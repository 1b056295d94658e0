"""The model card: the template of `cards/model.md` filled with a run's configuration and measured numbers."""

from __future__ import annotations

import json
import string
from importlib import resources
from pathlib import Path

from masklam.objectives import method
from masklam.run import CONFIG, Run, write


def text(run: Run) -> str:
    """The card of a run as Markdown, with the Hub's YAML header."""
    config = json.loads((run.folder / CONFIG).read_text())
    training = config["training"]
    template = resources.files("cards").joinpath("model.md").read_text()
    return string.Template(template).substitute(
        method=training["method"],
        title=method(training["method"]).title,
        env=training["env"],
        dataset=Path(training["dataset"]).name,
        results=results_table(run),
        settings="\n".join(f"| {name} | {value} |" for name, value in training.items() if name != "dataset"),
    )


def results_table(run: Run) -> str:
    """What was measured at the end of every stage, as rows of a Markdown table."""
    rows = []
    for record in run.metrics():
        for name, value in record.items():
            if name.endswith("nmse"):
                rows.append((name.replace("_", " "), f"{value:.3f}", record["step"]))
    last = {name: f"| {name} | {value} | {step} |" for name, value, step in rows}
    return "\n".join(last.values())


def write_card(run: Run) -> None:
    """Write the card as the run's `README.md`."""
    write(run.folder / "README.md", text(run))
