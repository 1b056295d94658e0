"""A run whose dataset is to lie behind a URL: each shard is sent when it is whole, and no frames are kept here.

Here, in the bucket's `folder`, waits what is not whole yet, beside the records of what was sent. They follow what
lies there: any machine can go on. No lock reaches so far; two runs of one split at once make the same bytes twice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from distractor_data import schema, untrusted
from distractor_data.dataset import folders, layout, meta, parts, storage
from distractor_data.dataset.sums import Sum
from distractor_data.errors import DmaskError
from distractor_data.events import Event, Made, OnEvent, Shard
from distractor_data.hub.bucket import Bucket
from distractor_data.hub.fetch import card_of, described, files_of, get, prefix_of, spec_of, stage, unstage
from distractor_data.hub.repository import Listed
from distractor_data.schema import CARD
from distractor_data.spec import Spec, of_record
from dmask_cards.template import refuse_foreign, stated_license

_FILES = (schema.data_file, schema.episodes_file)  # of a shard


def folder_of(bucket: Bucket) -> Path:
    """The bucket's folder here, with the records of all configs and splits that lie there and of no others."""
    there, home = bucket.files(), bucket.folder
    home.mkdir(parents=True, exist_ok=True)
    here = {prefix_of(root) for root in untrusted.splits(home, schema.DMASK)}
    for prefix in here | {f"{place[0]}/{place[1]}" for path in there if (place := layout.place(path))}:
        root = untrusted.folder(home, *prefix.split("/"))
        root.mkdir(parents=True, exist_ok=True)
        with suppress(DmaskError), storage.lock(root):  # a run that writes there, or one to come, will tell
            _follow_record(bucket, there, root)
    return home


@dataclass(frozen=True)
class Delivery:
    """What takes a run's shards to a bucket; `apart` where workers send episodes there, and don't write them here."""

    bucket: Bucket
    apart: bool = False
    replaces = False

    @property
    def through(self) -> Bucket | None:
        """Where workers are to send episodes; None where they write them here."""
        return self.bucket if self.apart else None

    @contextmanager
    def consume(self, home: Path, spec: Spec, fresh: bool, on_event: OnEvent) -> Iterator[Callable[[Event], None]]:
        """Make `home` go on from what lies there; yields what to feed with the run's events.

        Raises `DmaskError` before anything is made where a README.md of other hands would be lost.
        """
        bucket, root = self.bucket, schema.root(home, spec.env, spec.split)
        there = bucket.files()
        _refuse_foreign_card(bucket, there)
        listed = _take_over(bucket, there, root, spec)
        named = False

        def feed(event: Event) -> None:
            nonlocal named
            if not named:  # the record is this run's now
                bucket.send(root / schema.DMASK, f"{prefix_of(root)}/{schema.DMASK}")
                named = True
            if isinstance(event, Made) and event.anew and self.apart:
                _fetch_part(bucket, root, event.episode)
            if isinstance(event, Shard) and event.number not in storage.released(root):
                _send_shard(bucket, root, event.number, listed)

        yield feed
        _send_descriptions(bucket, root, listed)
        _send_card(bucket, home, root)


def _follow_record(bucket: Bucket, there: Mapping[str, Listed], root: Path) -> None:
    """Give a root the record that lies there, and empty it where it holds other data or none lies there."""
    prefix = prefix_of(root)
    if f"{prefix}/{schema.DMASK}" not in there:
        folders.empty(root)
        return
    with described(bucket, there, prefix, schema.DMASK) as known:
        record, spec = untrusted.dmask(known), spec_of(known, prefix)
    if meta.has_record(root) and spec.differences(meta.read_spec(root)):
        folders.empty(root)
    if not meta.has_record(root) or meta.read_record(root) != record:
        meta.save_record(root, record)


def _take_over(bucket: Bucket, there: Mapping[str, Listed], root: Path, spec: Spec) -> dict[str, Sum]:
    """Make a root follow what lies there, each file compared with its checksum; what lies there whole.

    Of a shard that does, the frames are not wanted here; one that doesn't is found missing here, and made anew.
    """
    _follow_record(bucket, there, root)
    prefix = prefix_of(root)
    waiting = [number for path in there if (number := parts.number_of(path.removeprefix(f"{prefix}/"))) is not None]
    if f"{prefix}/{schema.DMASK}" not in there:
        _remove_parts(bucket, prefix, waiting)  # nobody knows of what spec
        return {}
    for number in waiting:
        with suppress(DmaskError):  # one that is not whole is made anew
            _fetch_part(bucket, root, number)
    theirs = files_of(there, prefix)
    sums = _stated(bucket, there, prefix) if schema.CHECKSUMS in theirs else {}
    whole = {
        name: known for name, known in sums.items() if name in theirs and bucket.sum(f"{prefix}/{name}") == known
    }
    mine = storage.read_sums(root)
    other = [name for name, known in sums.items() if mine.get(name) != [known] or not (root / name).exists()]
    storage.forget(root, [storage.RELEASED, *other])
    storage.learn(root, sums)
    shards = [number for number in range(len(sums) // 2) if all(file(number) in whole for file in _FILES)]
    fetched = [name for name in map(schema.episodes_file, shards) if name in other]
    if shards and spec.episodes > of_record(meta.read_record(root)["spec"]).episodes:
        fetched.append(schema.data_file(shards[-1]))  # it may have room for more
    stated = {name: vars(whole[name]) for name in fetched}
    stage(bucket, there, root, fetched, stated)
    unstage(root, fetched, stated)
    storage.release(root, [number for number in shards if schema.data_file(number) not in fetched])
    return whole


def _stated(bucket: Bucket, there: Mapping[str, Listed], prefix: str) -> dict[str, Sum]:
    """What `meta/checksums.json` there says."""
    with described(bucket, there, prefix, schema.CHECKSUMS) as known:
        return {name: Sum(**stated) for name, stated in untrusted.checksums(known).items()}


def _fetch_part(bucket: Bucket, root: Path, episode: int) -> None:
    """An episode that was sent apart, to its place here. Raises `DmaskError` where it is not as its own list says."""
    place = untrusted.folder(root, storage.FETCHED)
    bucket.fetch([f"{prefix_of(root)}/{name}" for name in parts.files(episode)], place)
    parts.take(root, place / prefix_of(root), episode)


def _remove_parts(bucket: Bucket, prefix: str, episodes: Iterable[int]) -> None:
    bucket.remove(f"{prefix}/{name}" for episode in episodes for name in parts.files(episode))


def _send_shard(bucket: Bucket, root: Path, number: int, listed: dict[str, Sum]) -> None:
    """Send a shard, note it in `listed`, and release its frames here."""
    from dmask_cards.dataset import Part, write_sheet

    prefix, sums = prefix_of(root), storage.read_sums(root)
    coming = {name: known for file in _FILES if (known := sums[name := file(number)][0]) is not None}
    if number == 0:
        write_sheet(Part(root.parts[-2], root.parts[-1], root))
    if any(listed.get(name, known) != known for name, known in coming.items()):
        for name in coming:
            listed.pop(name, None)
        bucket.send(_text(listed), f"{prefix}/{schema.CHECKSUMS}")
    for name, known in coming.items():
        bucket.send(root / name, f"{prefix}/{name}", known)
    listed |= coming
    _send_descriptions(bucket, root, listed)
    storage.release(root, [number])
    _remove_parts(bucket, prefix, storage.read_episodes(root, number)[schema.EPISODE].to_pylist())


def _text(listed: Mapping[str, Sum]) -> bytes:
    """The content of `meta/checksums.json` for these files."""
    names = [name for number in range(len(listed)) for file in _FILES if (name := file(number)) in listed]
    return storage.json_text({name: vars(listed[name]) for name in names}).encode()


def _send_descriptions(bucket: Bucket, root: Path, listed: Mapping[str, Sum]) -> None:
    """What describes the shards that are `listed`, checksums last."""
    for name in layout.files(root):
        if name in schema.DESCRIPTIONS and name != schema.CHECKSUMS:
            bucket.send(root / name, f"{prefix_of(root)}/{name}")
    bucket.send(_text(listed), f"{prefix_of(root)}/{schema.CHECKSUMS}")


def _refuse_foreign_card(bucket: Bucket, there: Mapping[str, Listed]) -> None:
    with tempfile.TemporaryDirectory() as place:
        card = Path(place, CARD)
        card.write_bytes(card_of(bucket, there))
        try:
            refuse_foreign(card)
        except DmaskError as error:
            raise DmaskError(str(error).replace(place, bucket.name)) from error


def _send_card(bucket: Bucket, home: Path, root: Path) -> None:
    """A card of this split and of all others that lie there."""
    from dmask_cards.dataset import Part, license_of, render
    from dmask_cards.dataset import parts as parts_of

    there, mine = bucket.files(), Part(root.parts[-2], root.parts[-1], root)
    published = card_of(bucket, there).decode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as place:
        others = (path for path in there if (where := layout.place(path)) and where[2].startswith("meta/"))
        get(bucket, there, [path for path in others if not path.startswith(f"{prefix_of(root)}/")], Path(place))
        known = [mine, *parts_of(place)]
        license = license_of(known) or (stated_license(published) if published else None)
        text = render(home, known, None, license, published)
    bucket.send(text.encode(), CARD)
