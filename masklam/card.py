"""The model card: `dmask_cards/model.md` filled with a run's configuration and with what was measured, no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from distractor_data import schema, untrusted
from distractor_data.dataset import storage
from distractor_data.spec import full_name
from dmask_cards.template import fill, read_card, refuse_foreign
from masklam import measures
from masklam.methods import find
from masklam.run import Run

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"
CURVES = "curves.png"
RECONSTRUCTION = "reconstruction.png"
PLACES = ("dataset", "backgrounds", "reference")  # settings that may be folders of one machine


def text(run: Run, name: str | None = None, published: str = "") -> str:
    """The card as Markdown with the Hub's metadata; `name` is the repository's (default: the run's folder).

    What hands wrote between `keep` markers stays: that of the run's card, else that of the `published` one.
    """
    from huggingface_hub import ModelCardData

    config = run.config()
    training, parts = config["training"], config.get("parts", [])
    method, results, data, env = find(training["method"]), run.results(), run.dataset(), full_name(training["env"])
    found = list(measures.measures(results))
    hub_name = data["name"] if data["revision"] else None
    metadata = ModelCardData(
        library_name="dmask",
        license="apache-2.0",
        pipeline_tag="robotics",
        tags=["latent-action-models", "masklam", training["method"]],
        datasets=[hub_name] if hub_name else None,
        model_name=(name or run.folder.resolve().name).rpartition("/")[2] if found else None,
        eval_results=eval_results(found, env, data) or None,
    )
    mine = untrusted.inside(run.folder, CARD)
    return fill(
        "model",
        metadata,
        [(f"{CARD} of {name}", published), (mine, read_card(mine))],
        method=training["method"],
        title=method.title,
        env=env,
        dataset=data["name"],
        url=f"https://huggingface.co/datasets/{quote(hub_name)}" if hub_name else None,
        revision=data["revision"],
        parts=", ".join(parts),
        part_names=parts,
        measures=found,
        remarks=measures.remarks(results),
        sees=training.get("image_column", schema.IMAGE),
        clean=training.get("image_column") == schema.IMAGE_CLEAN,
        reference=results.get("reference", {}).get("run"),
        curves=CURVES if measures.curves(run.metrics(), run.folder / CURVES) else None,
        reconstruction=RECONSTRUCTION if (run.folder / RECONSTRUCTION).exists() else None,
        name=name or str(run.folder),
        channels=3 * config.get("frame_stack", 1),
        frame_stack=config.get("frame_stack", 1),
        size=config.get("image_size"),
        latent_dim=config.get("latent_dim"),
        action_dim=config.get("action_dim"),
        latent=method.latent,
        settings=[(k, v) for k, v in public(training).items() if v not in ("", [])],
        measured_out=any(m.kind == "nmse" and m.split == "test" for m in found),
        measured_return=any(m.kind == "return" for m in found),
        masked=method.masked,
    )


def eval_results(found: list[measures.Measure], env: str, data: dict[str, Any]) -> list[EvalResult]:
    """The measures as the Hub's `model-index` has them."""
    from huggingface_hub import EvalResult

    titles = {"nmse": "Probing of latent actions"}
    return [
        EvalResult(
            task_type="reinforcement-learning" if m.kind != "nmse" else "robotics",
            task_name=titles.get(m.kind, "Control from pixels"),
            dataset_type=data["name"],
            dataset_name=f"{data['name']} ({env})",
            dataset_config=env,
            dataset_split=m.split,
            dataset_revision=data["revision"],
            metric_type=m.kind,
            metric_name=f"{m.name}, {m.where}",
            metric_value=m.value,
        )
        for m in found
    ]


def public(training: dict[str, Any]) -> dict[str, Any]:
    """The settings without the folders of the machine they were used on: only their last part."""
    return {k: Path(v).name if k in PLACES and Path(v).is_absolute() else v for k, v in training.items()}


def check(run: Run) -> None:
    """Raise `DmaskError` where the run's card would take the place of a README.md of other hands."""
    refuse_foreign(untrusted.inside(run.folder, CARD))


def write_card(run: Run) -> None:
    """Write the card as the run's `README.md`, and its curves beside it."""
    check(run)
    with storage.atomic_write(run.folder / CARD) as temporary:
        temporary.write_text(text(run), encoding="utf-8")
