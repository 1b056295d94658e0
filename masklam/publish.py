"""A trained run to the Hugging Face Hub: weights, configuration, and a card with what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from distractor_data import sources, untrusted
from distractor_data.errors import DmaskError
from distractor_data.events import OnFiles, unheard
from distractor_data.hub import download
from distractor_data.hub.fetch import card_of
from distractor_data.hub.patience import hub_errors
from distractor_data.hub.repository import Content, Plan, Push, Repository, connect, read_content, sha256
from distractor_data.spec import full_name
from masklam import card
from masklam.models import Model
from masklam.run import CONFIG, WEIGHTS, Run

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile


def push(
    folder: str | Path,
    name: str | None = None,
    *,
    private: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    message: str = "Upload model",
    token: str | None = None,
    data: str | None = None,
    dry_run: bool = False,
    on_files: OnFiles = unheard,
) -> Push:
    """Make the model repository `name` hold a run's model (default: `<user>/<method>-<env>`).

    `data` is the name on the Hub (`org/name@revision`) of the dataset that the run was trained on, where it was
    trained on a folder; that it is the same is checked. Raises `DmaskError` where the folder holds no trained model.
    """
    run = Run(folder)
    config = _config(run)
    if data is not None:
        run.save_dataset(_same_data(run, data, config["training"]["env"]))
    default = f"{config['training']['method']}-{full_name(config['training']['env'])}"
    config["training"] = card.public(config["training"])
    contents: dict[str, Content] = {
        WEIGHTS: run.folder / WEIGHTS,
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    if dry_run:
        text = card.text(run, name or default)
        return Push(name or default, "", Plan({**contents, **_pictures(run)}, text).sizes, text)
    api, name = connect(name, default, token)
    repository, sums = Repository(api, name, "model", revision), {WEIGHTS: sha256(run.folder / WEIGHTS)}

    def plan(now: Repository, there: dict[str, RepoFile]) -> Plan:
        """With what hands wrote into the card on the Hub meanwhile."""
        text = card.text(run, name, card_of(now, there).decode("utf-8", "replace"))
        return Plan({**contents, **_pictures(run)}, text, sums=sums)

    with hub_errors(name, "push to"):
        repository.create(private)
        sent = repository.send(plan, message, on_files)
        if tag is not None:
            repository.tag(tag, sent.commit)
    return Push(name, repository.url, sent.sizes, sent.plan.card)


def _config(run: Run) -> dict:
    """A run's configuration. Raises where there is no model, or one that can't be loaded."""
    if not untrusted.inside(run.folder, WEIGHTS).exists():
        raise DmaskError(f"{run.folder} holds no trained model; give the folder that `masklam train --out` wrote")
    try:
        Model.from_pretrained(run.folder)
    except DmaskError as error:
        raise DmaskError(f"the model in {run.folder} can't be loaded: {error}") from error
    return run.config()


def _pictures(run: Run) -> dict[str, Content]:
    """The pictures that the card shows."""
    files = [untrusted.inside(run.folder, name) for name in (card.CURVES, card.RECONSTRUCTION)]
    return {file.name: read_content(file) for file in files if file.exists()}


def _same_data(run: Run, data: str, env: str) -> dict[str, str | None]:
    """The record of the dataset on the Hub, which must hold what the run was trained on."""
    root, _ = download.stream(data, env, "train")
    found = sources.describe(root, data)
    if found["digest"] is None or found["digest"] != run.dataset()["digest"]:
        raise DmaskError(f"{run.folder} was trained on other data than {data} holds; give the revision that has it")
    return found
