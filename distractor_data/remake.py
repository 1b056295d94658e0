"""A shard's files made anew: the damaged episodes by the simulator, their masks by the model that the record names.

Episodes whose pages all have their checksums are kept, and of the others the masks where those are whole. After each
step that the shard once went through (the simulator's masks, a model's, degraded ones, measured ones) the result is
compared with the checksums that were noted when the files were written.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distractor_data import engines, envs, policies, schema, untrusted
from distractor_data.dataset import meta, parts, rewrite, storage, sums
from distractor_data.errors import DmaskError
from distractor_data.generate import complete, make_episode
from distractor_data.hub import fetch
from distractor_data.hub.patience import hub_errors
from distractor_data.hub.repository import Repository, api_of
from distractor_data.masks import store
from distractor_data.spec import SYNTHETIC, Import, Spec, of_record

OTHER = "can't be made again to the byte (SHA-256 differs), so nothing was replaced"
Spans = dict[int, tuple[int, int]]  # episode → index of its first frame in the split, number of frames


@dataclass(frozen=True)
class Given:
    """What a record names without its path, given again: a folder of videos, a policy's file, a model's file."""

    backgrounds: str | None = None
    policy: str | None = None
    model: str | None = None


@dataclass
class Split:
    """A split under repair."""

    root: Path
    given: Given
    workers: int
    mended: list[str] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        return self.root / storage.SCRATCH

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        return meta.read_record(self.root)

    @functools.cached_property
    def origin(self) -> dict[str, str] | None:
        """Where the split was pulled from."""
        return fetch.origin(self.root)

    @functools.cached_property
    def spec(self) -> Spec:
        """The recorded spec, its paths those given. Raises `DmaskError` where they, or the versions, are others."""
        there = of_record(self.record["spec"])
        if edit := self.record.get("edit"):
            raise DmaskError(
                f"{self.root} was edited (dmask {edit['verb']}), which can't be made anew; take the files from a copy"
            )
        if isinstance(there, Import):
            raise DmaskError(
                f"{self.root} was imported from {there.file!r}, and what is damaged can't be made again; import "
                "that file into another folder, or pull the split from the Hub"
            )
        meta.refuse_other_versions(self.root, self.record["versions"], there, "repair it with those")
        drawn, now = self.record["versions"].get("renderer", ""), envs.renderer(there.renderer)
        if drawn and now not in drawn.split("; "):
            raise DmaskError(f"{self.root} was drawn by {drawn}; here it is {now}, whose pixels may differ")
        mine = there
        if there.backgrounds != SYNTHETIC and there.difficulty != "clean":
            path = self._needed("backgrounds", there.backgrounds, self.given.backgrounds)
            mine = dataclasses.replace(mine, backgrounds=path)
        if there.policy not in policies.NAMES:
            mine = dataclasses.replace(mine, policy=self._needed("policy", there.policy, self.given.policy))
        made, _ = complete(mine)
        if differences := made.differences(there):
            raise DmaskError(
                f"{self.root} was made with something else: {', '.join(differences)}; give what it names"
            )
        return made

    def _needed(self, option: str, name: str, given: str | None) -> str:
        if not given:
            raise DmaskError(f"{self.root} was made with {name!r}, which lies elsewhere; give it with --{option}")
        return given

    def put(self, name: str, new: Path | bytes) -> bool:
        """Put `new` in a file's place if it has the checksum that was noted for the file; whether it has."""
        if sums.of(new) not in storage.read_sums(self.root)[name]:
            return False
        with storage.atomic_write(self.root / name) as temporary:
            if isinstance(new, bytes):
                temporary.write_bytes(new)
            else:
                shutil.copyfile(new, temporary)
        self.mended.append(name)
        return True

    def fetch(self, name: str) -> Path:
        """A file of the split from where it was pulled."""
        assert self.origin is not None
        repository = Repository(api_of(), self.origin["repository"], revision=self.origin["revision"])
        with hub_errors(repository.name, "repair from"):
            return repository.download("/".join((*self.root.parts[-2:], name)), self.scratch / "hub")

    def alone(self, episode: int) -> Path:
        """A root for one episode alone, named as this one."""
        return schema.root(self.scratch / str(episode), *self.root.parts[-2:])


def restore_shard(split: Split, shard: int, names: list[str]) -> None:
    """Restore the files `names` of a shard. Raises `DmaskError` where what was made is not what was there first."""
    if split.origin and all(split.put(name, split.fetch(name)) for name in names):
        return
    spans = _spans(split, shard, names)
    whole = _intact(split.root, shard, spans) if spans and schema.episodes_file(shard) not in names else {}
    # What pages don't tell, such as damage to a file's footer, is told by the SHA-256: then none is kept.
    attempts = [whole, {}] if whole else [{}]
    if not any(_restored(split, shard, names, spans, kept) for kept in attempts):
        raise DmaskError(f"{split.root / names[0]} {OTHER}")


def _spans(split: Split, shard: int, names: list[str]) -> Spans:
    """The shard's episodes, as the file that is whole tells; empty where none is."""
    if schema.episodes_file(shard) not in names:
        columns = (schema.EPISODE, schema.FROM_INDEX, schema.LENGTH)
        table = storage.read_episodes(split.root, shard)
        rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
        return {episode: (first, length) for episode, first, length in rows}
    path = split.root / schema.data_file(shard)
    if schema.data_file(shard) not in names and path.exists():  # it is whole, the records that it belongs to are not
        table = untrusted.frames_table(path, columns=[schema.EPISODE, schema.INDEX])
        episodes, starts, lengths = np.unique(table[schema.EPISODE], return_index=True, return_counts=True)
        firsts = table[schema.INDEX].to_numpy()[starts]
        return {int(e): (int(first), int(n)) for e, first, n in zip(episodes, firsts, lengths, strict=True)}
    return {}


def _intact(root: Path, shard: int, spans: Spans, columns: list[str] | None = None) -> dict[int, pa.Table]:
    """The episodes of a damaged file of frames all of whose pages, of the columns asked for, have their checksum."""
    found: dict[int, pa.Table] = {}
    try:
        untrusted.parquet(root / schema.data_file(shard))
        file = pq.ParquetFile(root / schema.data_file(shard), page_checksum_verification=True)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    except (DmaskError, OSError, pa.ArrowException):
        return found
    edges = min(first for first, _ in spans.values()) + np.cumsum([0, *sizes])
    for episode, (first, length) in spans.items():
        groups = [k for k in range(len(sizes)) if first <= edges[k] < first + length]
        try:
            table = file.read_row_groups(groups, columns=columns)
        except (OSError, pa.ArrowException):
            continue
        if len(table) == length:
            found[episode] = table
    return found


def _restored(split: Split, shard: int, names: list[str], spans: Spans, kept: dict[int, pa.Table]) -> bool:
    """Make the episodes that are not `kept` anew; whether at some step the files had their first checksums."""
    made = _make(split, shard, spans, kept)
    missing = set(names)
    for step, source in enumerate(_steps(split, shard, spans, made)):
        root = split.scratch / f"step-{step}"
        if not _compose(split, shard, root, made, kept, source):
            continue
        missing = {name for name in missing if not split.put(name, root / name)}
        if not missing:
            return True
    return False


def _make(split: Split, shard: int, spans: Spans, kept: dict[int, pa.Table]) -> list[int]:
    """Write each episode that is not `kept` as a shard of its own, as it was before any model masked it."""
    spans = spans or _expected(split, shard)
    made = [episode for episode in spans if episode not in kept]
    if split.origin:
        _take_apart(split, shard, made)
    elif made:
        work = functools.partial(_make_alone, split, split.spec, split.record["fps"])
        for _ in engines.run_local(work, made, min(split.workers, len(made))):
            pass
    after = 0
    for episode in made:
        first = max(after, spans[episode][0])
        after = parts.assemble(split.alone(episode), shard, [episode], first, split.record["spec"]["env"])
    return made


def _expected(split: Split, shard: int) -> Spans:
    """The episodes that a shard should hold; from where on is told by the shard before, how long they are by none."""
    size = storage.episodes_per_shard(split.spec)
    ends = storage.read_episodes(split.root, shard - 1)[schema.TO_INDEX].to_pylist() if shard else [0]
    return dict.fromkeys(range(shard * size, min((shard + 1) * size, split.spec.episodes)), (ends[-1], 0))


def _make_alone(split: Split, spec: Spec, fps: int, episode: int) -> None:
    """In a worker: make one episode and store it as a part of its own root."""
    make_episode(spec, split.alone(episode), fps, episode)


def _take_apart(split: Split, shard: int, episodes: list[int]) -> None:
    """The episodes of the shard as it was pulled, each as a part of its own root."""
    for name in (schema.data_file(shard), schema.episodes_file(shard)):
        path = split.fetch(name)
    root = schema.root(split.scratch / "hub", *split.root.parts[-2:])
    parts.disassemble(root, shard)
    for episode in episodes:
        path = parts.part_file(split.alone(episode), episode)
        path.parent.mkdir(parents=True)
        os.rename(parts.part_file(root, episode), path)


def _steps(split: Split, shard: int, spans: Spans, made: list[int]) -> Iterator[dict[str, Any] | None]:
    """Take the episodes that were made through what the shard went through; yields the source of their masks."""
    chain = _chain(split.record["mask"])
    source = None
    yield source
    for source in chain:
        _mask(split, shard, spans if source is chain[-1] else {}, made, source)
        yield source
    for episode in made:
        store.measure_shard(split.alone(episode), shard)
    yield source


def _chain(mask: dict[str, Any]) -> list[dict[str, Any]]:
    """Where masks come from, step by step, from a record that tells of the last."""
    if mask["source"] == "simulator":
        return []
    earlier = _chain(mask["of"]) if "of" in mask else []
    return [*earlier, {key: value for key, value in mask.items() if key != "complete"}]


def _mask(split: Split, shard: int, spans: Spans, made: list[int], source: dict[str, Any]) -> None:
    """Give the episodes that were made masks of `source`, those of the damaged file where they are whole."""
    from distractor_data.masks.corrupt import Corruption, corrupt_shard

    if source["source"] == "corrupted":
        how = Corruption(**{option.name: source[option.name] for option in dataclasses.fields(Corruption)})
        for episode in made:
            corrupt_shard(split.alone(episode), split.alone(episode), shard, how, source)
        return
    whole = _intact(split.root, shard, spans, [schema.MASK]) if spans else {}
    for episode in made:
        if episode in whole:
            root = split.alone(episode)
            frames = store.keep_simulator(storage.read_frames(root, shard), "simulator")
            masks = storage.decode_images(whole[episode][schema.MASK]) > 127
            store.write_masks(root, shard, frames, storage.read_episodes(root, shard), [masks], source)
    if pending := [(split.alone(episode), shard) for episode in made if episode not in whole]:
        from distractor_data.masks.annotate import mask_shards

        for _ in mask_shards(_masker(split, source), pending):
            pass


def _masker(split: Split, source: dict[str, Any]) -> Any:
    """The recorded model with the recorded prompt. Raises `DmaskError` where its weights are others."""
    from distractor_data.masks.annotate import Masker, Settings, prepare

    model = split.given.model or source["model"]
    if source["prompt"].startswith("mask="):
        raise DmaskError(
            f"{split.root} has masks made with --prompt {source['prompt']}, whose file nothing here holds"
        )
    if not split.given.model and "/" not in model:
        raise DmaskError(f"{split.root} has masks of {model!r}, which lies elsewhere; give it with --model")
    names = ("image_size", "prompt", "reprompt", "precision")
    masker = prepare(Settings(model=model, **{name: source[name] for name in names}))
    differs = [key for key in (*names, "weights_sha256", "versions") if masker.source[key] != source[key]]
    if differs:
        raise DmaskError(f"{split.root} has masks made with another {', '.join(differs)} of the model; give --model")
    return Masker(masker.settings, source, masker.tracker)


def _compose(
    split: Split, shard: int, root: Path, made: list[int], kept: dict[int, pa.Table], source: dict[str, Any] | None
) -> bool:
    """Write the shard into `root` from episodes made and kept; false where those are not at the same step."""
    tables = kept | {episode: storage.read_frames(split.alone(episode), shard) for episode in made}
    frames = [tables[episode] for episode in sorted(tables)]
    if len({tuple(table.column_names) for table in frames}) > 1:
        return False
    if kept:  # only where the records are whole
        records = storage.read_episodes(split.root, shard)
    else:
        rows = [row for e in made for row in storage.read_episodes(split.alone(e), shard).to_pylist()]
        records = rewrite.records(rows, source) if schema.IOU in rows[0] else pa.Table.from_pylist(rows)
    storage.write_shard(root, shard, pa.concat_tables(frames), records)
    return True
