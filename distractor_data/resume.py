"""A folder made ready for a spec: begun, or gone on with, or refused, before anything in it is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from distractor_data import envs, policies, schema
from distractor_data.dataset import folders, meta, parts, storage
from distractor_data.errors import DmaskError
from distractor_data.repair import Given, repair
from distractor_data.spec import SPLITS, Spec, full_name

AUTO = "auto"  # of `--renderer`


def continues(root: Path, spec: Spec) -> bool:
    """Whether the folder holds the beginning of just this data."""
    try:
        record = meta.read_record(root)
        _refuse_other_data(root, spec, record, "")
        _renderers(root, record, envs.renderer(spec.renderer), any_renderer=False, choices="")
    except DmaskError:
        return False
    return spec.episodes == Spec.from_json(record["spec"]).episodes


def drawing(
    directory: str | Path, env: str, split: str, renderer: str = AUTO, fidelity: str | None = None
) -> tuple[str, str]:
    """The spec's `renderer` and `fidelity` for what was asked for.

    What was not is that of the data that is gone on with, or of the config's other split, if any; else the fastest.
    """
    splits = [split, *(other for other in SPLITS if other != split)]
    roots = [schema.root(directory, full_name(env), each) for each in splits]
    begun = [spec for root in roots if meta.has_record(root) if isinstance(spec := meta.read_spec(root), Spec)]
    if renderer == AUTO and begun:
        renderer = begun[0].renderer
    elif renderer == AUTO:
        renderer = "opengl" if fidelity == "exact" else envs.fastest(env)
    if fidelity is None:
        fidelity = begun[0].fidelity if begun and begun[0].renderer == renderer else "fast"
    return renderer, fidelity


def as_begun(final: Path, root: Path, spec: Spec) -> Spec:
    """The spec in the version that its config was begun with, whose splits are read together."""
    others = [schema.root(final.parent.parent, spec.env, split) for split in SPLITS if split != spec.split]
    begun = [meta.read_spec(split) for split in (*others, root) if (split / schema.DMASK).exists()]
    versions = [there.version for there in begun if isinstance(there, Spec)]
    return dataclasses.replace(spec, version=min([spec.version, *versions]))


def resume(root: Path, spec: Spec, fps: int, model: str | None = None, any_renderer: bool = False) -> None:
    """Make the folder ready to hold this spec, or refuse and say which field differs. What is damaged is mended."""
    renderer = envs.renderer(spec.renderer)
    if not meta.has_record(root):
        if any(name != meta.COPY for name in folders.contents(root)):
            raise DmaskError(f"{root} is not empty and holds no dataset; choose another --out")
        storage.settle(root)
        _write_record(root, spec, fps, renderer)
        return
    choices = "choose another --out, or replace it with --overwrite"
    record = meta.read_record(root)
    if edit := record.get("edit"):
        raise DmaskError(f"{root} was edited (dmask {edit['verb']}) and can't grow; {choices}")
    _refuse_other_data(root, spec, record, choices)
    renderer = _renderers(root, record, renderer, any_renderer, choices)
    repair(root, Given(spec.backgrounds, spec.policy, model), exact=False)
    held, source = storage.shards(root), record["mask"]["source"]
    grows = spec.episodes > Spec.from_json(record["spec"]).episodes
    if grows and source != "simulator":
        raise DmaskError(f"{root} has masks of {source} and can't grow; {choices}")
    if source != "simulator" and model is None and len(held) < len(storage.wanted_shards(spec)):
        raise DmaskError(f"{root} is to have masks of {source}; give --masks sam2 to go on, or {choices}")
    if grows and held and len(storage.read_episodes(root, held[-1])) < storage.episodes_per_shard(spec):
        parts.disassemble(root, held[-1])
    if grows:
        _write_record(root, spec, fps, renderer)


def _refuse_other_data(root: Path, spec: Spec, record: dict[str, Any], choices: str) -> None:
    there = Spec.from_json(record["spec"])
    if differences := spec.differences(there):
        raise DmaskError(f"{root} holds data of another spec: {', '.join(differences)}; {choices}")
    if spec.episodes < there.episodes:
        raise DmaskError(f"{root} is for {there.episodes} episodes, {spec.episodes} now; {choices}")
    meta.refuse_other_versions(root, record["versions"], spec, choices)


def refuse_other_columns(root: Path, spec: Spec) -> None:
    """The splits of a config are read together, so what one keeps the other must keep too."""
    for sibling in root.parent.glob(f"*/{schema.DMASK}"):
        there = meta.read_spec(sibling.parent.parent)
        if there.split != spec.split and there.clean != spec.clean:
            add = "add" if there.clean else "leave out"
            raise DmaskError(
                f"{sibling.parent.parent} was made {'with' if there.clean else 'without'} --clean, and the splits of "
                f"a config need the same columns; {add} --clean here, or choose another --out"
            )


def _renderers(root: Path, record: dict[str, Any], now: str, any_renderer: bool, choices: str) -> str:
    """What drew the data and goes on with it, recorded: one renderer, but for `any_renderer`; empty if it is old."""
    there = record["versions"].get("renderer", "")
    if not there or now in there.split("; "):
        return there
    if not any_renderer:
        raise DmaskError(
            f"{root} was drawn by {there}; here it is {now}, whose pixels may differ; {choices}, or mix them with "
            "--any-renderer"
        )
    both = f"{there}; {now}"
    meta.save_record(root, record | {"versions": record["versions"] | {"renderer": both}})
    return both


def _write_record(root: Path, spec: Spec, fps: int, renderer: str) -> None:
    meta.write_record(root, spec, fps, renderer, policies.recorded_return(spec.policy, spec.env))
