"""What is damaged or missing in a split, restored to the byte: nothing takes a file's place whose SHA-256 is not the
one that was noted when the file was written.

Shards come from where the split was pulled from, else they are made anew (`remake`); all other files follow from the
record and the shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distractor_data import engines, remake, schema, untrusted
from distractor_data.dataset import meta, storage, sums
from distractor_data.errors import DmaskError
from distractor_data.remake import Given, Split

PICTURES = (schema.HISTOGRAM, schema.SHEET)


def repair_all(directory: str | Path, given: Given = Given(), workers: int | None = None) -> dict[str, list[str]]:
    """Repair every config and split of a dataset; `config/split` → the files restored.

    Raises `DmaskError` for what can't be restored, and leaves it as it is.
    """
    restored = {}
    for root in meta.roots(directory):
        with storage.lock(root):
            restored["/".join(root.parts[-2:])] = repair(root, given, workers)
    return restored


def repair(root: Path, given: Given = Given(), workers: int | None = None, exact: bool = True) -> list[str]:
    """Restore the files of a split whose lock is held; the names of those that were damaged.

    Unless `exact`, pictures that another version drew are drawn anew, and what else follows from the record and the
    shards is left to the caller's `meta.refresh`.
    """
    split = Split(root, given, workers or engines.cores())
    storage.remove(split.scratch)
    try:
        listed = _restore_list(split)
        if not listed:
            _restore_records(split)
        storage.settle(root)
        damaged = [str(path.relative_to(root)) for path in meta.damaged(root)]
        parts = [name for name in damaged if name.startswith(storage.PARTS)]
        storage.forget(root, parts)  # the run that goes on makes them
        for shard, names in _by_shard(damaged).items():
            remake.restore_shard(split, shard, names)
        if listed:
            _list_all(split)
        else:
            rest = [name for name in damaged if untrusted.shard_of(name) is None and name not in parts]
            _restore_derived(split, rest, exact)
    finally:
        storage.remove(split.scratch)
    storage.settle(root)
    return split.mended + parts


def _restore_list(split: Split) -> bool:
    """Where the list of checksums is damaged, begin it again with the published ones; whether it was.

    `_list_all` completes it. The two are each other's copy.
    """
    try:
        storage.read_sums(split.root)
        return False
    except DmaskError:
        published = storage.published_sums(split.root)
    with storage.atomic_write(split.root / storage.SUMS) as temporary:
        temporary.write_text(sums.render({name: [value] for name, value in published.items()}))
    split.mended.append(storage.SUMS)
    return True


def _list_all(split: Split) -> None:
    """Complete a list that has the shards alone: the other files are fetched or written again, and so listed."""
    root = split.root
    if split.origin:
        described = [name for name in schema.DESCRIPTIONS if (root / name).exists()]
        storage.learn(root, {name: sums.of(split.fetch(name)) for name in described})
        return
    record = (root / schema.DMASK).read_bytes()
    if (root / meta.COPY).exists() and (root / meta.COPY).read_bytes() != record:
        raise DmaskError(
            f"{root / schema.DMASK} and its copy {root / meta.COPY} differ, and {storage.SUMS} is damaged"
        )
    meta.save_record(root, meta.read_record(root))
    if (root / storage.RELEASED).exists():
        storage.release(root, [])
    meta.refresh(root)
    for name in PICTURES:
        if (root / name).exists() and (name != schema.SHEET or 0 not in storage.released(root)):
            _draw_anew(root, name)


def restore_record(root: Path) -> None:
    """Restore `meta/dmask.json` alone, which is read before all else; the lock must be held."""
    try:
        storage.read_sums(root)
    except DmaskError:
        return  # `repair` begins the list again, and what it doesn't have can't be restored
    _restore_records(Split(root, Given(), 1))


def _restore_records(split: Split) -> None:
    for name in (schema.DMASK, meta.COPY, storage.RELEASED):
        if _is_damaged(split.root, name):
            _restore_record(split, name)


def _restore_record(split: Split, name: str) -> None:
    """Restore what the shards don't tell: the record, from its copy or reversed, and which shards were released."""
    root = split.root
    if split.origin and split.put(name, split.fetch(name)):
        return
    if name == storage.RELEASED:
        count = sum(untrusted.shard_of(other) is not None for other in storage.read_sums(root)) // 2
        gone = [number for number in range(count) if not (root / schema.data_file(number)).exists()]
        if split.put(name, storage.json_text(gone).encode()):
            return
        raise DmaskError(f"{root / name} is damaged, and which shards were released can't be told from what is there")
    twin = root / (meta.COPY if name == schema.DMASK else schema.DMASK)
    if not twin.exists() or not split.put(name, twin):
        raise DmaskError(f"{root / name} and {twin} are both damaged, and nothing else tells what they said")


def _restore_derived(split: Split, names: Iterable[str], exact: bool) -> None:
    """Restore files that follow from the record and the shards."""
    root, made = split.root, None
    for name in names:
        if split.origin and split.put(name, split.fetch(name)):
            continue
        if name in PICTURES:
            drawn = split.scratch / "picture.png"
            drawn.parent.mkdir(exist_ok=True)
            _draw(root, name, drawn)
            if split.put(name, drawn):
                continue
            if not exact:
                _draw_anew(root, name)
                continue
        elif not exact:
            continue
        else:
            made = made or meta.derived(root)
            if name in made and split.put(name, made[name]):
                continue
        raise DmaskError(
            f"{root / name} {remake.OTHER}: another version may have written it; the command that made the split "
            "writes it anew"
        )


def _draw(root: Path, name: str, path: Path) -> None:
    if name == schema.HISTOGRAM:
        from distractor_data.masks.report import draw
    else:
        from dmask_cards.dataset import draw_sheet as draw
    draw(root, path)


def _draw_anew(root: Path, name: str) -> None:
    with storage.recorded_write(root, name) as temporary:
        _draw(root, name, temporary)


def _is_damaged(root: Path, name: str) -> bool:
    file, known = root / name, storage.read_sums(root)
    return name in known and (sums.of(file) if file.exists() else None) not in known[name]


def _by_shard(names: Iterable[str]) -> dict[int, list[str]]:
    """Shard → its files among `names`, in the order of the shards: each goes on from the index of the one before."""
    found: dict[int, list[str]] = {}
    for name in names:
        if (shard := untrusted.shard_of(name)) is not None:
            found.setdefault(shard, []).append(name)
    return dict(sorted(found.items()))
