"""The dataset card: all of it is read from the folder it describes, so it can be made again at any time."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distractor_data import schema, untrusted
from distractor_data.dataset import layout, read, storage
from distractor_data.errors import DmaskError
from distractor_data.schema import CARD
from distractor_data.spec import SYNTHETIC, Import, Spec, of_record
from dmask_cards.template import fill, read_card, refuse_foreign

if TYPE_CHECKING:
    from datasets import Features

SHEET = Path(schema.SHEET).name
PRETTY_NAME = "Distracting Control, masked"
TASKS = ["robotics", "reinforcement-learning", "image-segmentation"]
TAGS = ["LeRobot", "robotics", "reinforcement-learning", "image-segmentation", "latent-action-models"]
SYNTHETIC_LICENSE = "cc-by-4.0"
MEANINGS = {
    schema.IMAGE: "what the camera shows before the action",
    schema.MASK: "the agent: 255 on it, 0 elsewhere",
    schema.MASK_SIM: "the simulator's mask of the agent",
    schema.IMAGE_CLEAN: "the same instant without any distractor, from the undistracted camera",
    schema.MASK_CLEAN: "the agent in `observation.image_clean`, which the other masks don't fit",
    schema.ACTION: "taken at this observation, each entry in [-1, 1]",
    schema.REWARD: "the reward that followed",
    schema.DONE: "whether the episode ended with it",
    schema.SUCCESS: "whether the task was solved after it",
    schema.TIMESTAMP: "seconds since the episode began",
    schema.FRAME: "number of the frame in its episode",
    schema.EPISODE: "number of the episode",
    schema.INDEX: "number of the frame in the split",
    schema.TASK: "row of `meta/tasks.parquet`",
}
AS_RECORDED = {  # where some of it was imported
    schema.STATE: "proprioception, as it was recorded",
    schema.ACTION: "taken at this observation, as it was recorded: entries may lie outside of [-1, 1]",
}
STATES = {
    "suite": "proprioception: the observation of the suite, flattened in sorted key order",
    "metaworld": "Meta-World's observation: hand, gripper and objects now (18) and before (18), and the goal (3)",
}
_SIZES = [(10**exponent, f"{10 ** (exponent % 3)}{'KMBT'[exponent // 3 - 1]}") for exponent in range(3, 13)]


@dataclass(frozen=True)
class Part:
    """One config and split as its `meta/` folder describes it; the data files may lie elsewhere."""

    config: str
    split: str
    root: Path

    @property
    def info(self) -> dict[str, Any]:
        return untrusted.info(self.root)

    @property
    def record(self) -> dict[str, Any]:
        return untrusted.dmask(self.root)

    @property
    def spec(self) -> Spec | Import:
        return of_record(self.record["spec"])

    @property
    def bytes(self) -> int:
        """Of the files of frames, as the checksums list them."""
        sums = untrusted.checksums(self.root)
        return sum(known["size"] for path, known in sums.items() if path.startswith("data/"))

    def files(self, kind: str) -> list[Path]:
        """Of `data` or of `meta/episodes`, those that lie here."""
        return [self.root / name for name in layout.files(self.root) if name.startswith(f"{kind}/")]

    def mean(self, column: str) -> float | None:
        """Mean over the episodes of a number in `meta/episodes`; None where it was not measured."""
        tables = [storage.read_episodes(self.root, shard) for shard in storage.shards(self.root, frames=False)]
        columns = [table[column].to_numpy().astype(np.float64) for table in tables if column in table.column_names]
        values = np.concatenate(columns) if columns else np.empty(0)
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else None


def parts(directory: str | Path) -> list[Part]:
    """Every config and split of the folder, `train` before `test`. Raises `DmaskError` where a name is none."""
    for info in Path(directory).glob(f"*/*/{schema.INFO}"):
        untrusted.inside(Path(directory), info.relative_to(directory).as_posix())
    found = read.configs(directory)
    for name in (f"{config}/{split}" for config, splits in found.items() for split in splits):
        if layout.place(f"{name}/{schema.INFO}") is None:
            raise DmaskError(f"{directory}/{name} can't be the name of a config and split; move it elsewhere")
    return [
        Part(config, split, schema.root(directory, config, split))
        for config, splits in found.items()
        for split in splits
    ]


def license_of(found: list[Part], license: str | None = None) -> str | None:
    """The licence given, or the one that synthetic backgrounds allow, or None where a person must decide."""
    synthetic = all(part.spec.backgrounds == SYNTHETIC for part in found)
    return license or (SYNTHETIC_LICENSE if synthetic else None)


def write_card(directory: str | Path, repo_id: str | None = None, license: str | None = None) -> Path:
    """Write `DIR/README.md`, and beside it the pictures it shows, from what lies in the folder.

    `repo_id` is the name that the loading lines use (default: the folder's). Hand-written text between
    `<!-- keep NAME -->` and `<!-- /keep -->` stays as it is. Raises `DmaskError` where no dataset is.
    """
    found = parts(directory)
    for part in found:
        write_sheet(part)
    path = untrusted.inside(Path(directory), CARD)
    refuse_foreign(path)
    text = render(directory, found, repo_id, license)
    with storage.atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def render(
    directory: str | Path, found: list[Part], repo_id: str | None, license: str | None, published: str = ""
) -> str:
    """The text of the card for `found`.

    What was hand-written is taken over from `DIR/README.md`, and from the `published` card where that has none.
    """
    if not found:
        raise DmaskError(f"{directory} holds no dataset; make one with `dmask generate --out {directory}`")
    data = _yaml(found, license_of(found, license))
    values = values_of(found, repo_id or Path(directory).resolve().name)
    mine = untrusted.inside(Path(directory), CARD)
    old = [(f"{CARD} of {repo_id}", published), (mine, read_card(mine))]
    return fill("dataset", data, old, repo_id=repo_id, **values)


def command(spec: Spec | Import) -> str:
    """The `dmask` line that makes the data of a spec."""
    if isinstance(spec, Import):
        return f"{shlex.join(['dmask', 'import', spec.file, 'DIR'])} # SHA-256 {spec.sha256}"
    words = ["dmask", "generate", "--env", spec.env, "--split", spec.split, "--episodes", str(spec.episodes)]
    words += ["--seed", str(spec.seed)]
    flags = ("clean", "mask_mount", "mask_objects")
    others = {"env", "split", "episodes", "seed", "dynamic", "version", *flags}
    for field in (field for field in dataclasses.fields(spec) if field.name not in others):
        value = getattr(spec, field.name)
        if value != field.default and not field.name.endswith("_digest"):
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    words += [] if spec.dynamic else ["--static"]
    words += [f"--{name.replace('_', '-')}" for name in flags if getattr(spec, name)]
    return shlex.join(words)


def features(info: dict[str, Any]) -> Features:
    """The `datasets` features of the columns that LeRobot's `info.json` lists."""
    from datasets import Features, Image, List, Value

    made: dict[str, Any] = {}
    for name, feature in info["features"].items():
        if name in schema.IMAGE_COLUMNS:
            made[name] = Image()
        elif name in schema.VECTOR_COLUMNS:
            made[name] = List(Value(feature["dtype"]), length=feature["shape"][0])
        else:
            made[name] = Value(feature["dtype"])
    return Features(made)


def common_columns(found: list[Part]) -> Features:
    """The features that every shard here has, of all parts of a config."""
    from datasets import Features

    stated = []
    for part in found:
        with untrusted.damage(part.root / schema.INFO):
            stated.append(features(part.info))
    first, *others = stated
    held = [set(other) for other in others]
    held += [set(untrusted.parquet(file).schema_arrow.names) for part in found for file in part.files("data")]
    return Features({name: feature for name, feature in first.items() if all(name in names for names in held)})


def _yaml(found: list[Part], license: str | None) -> Any:
    """The card's metadata: what the Hub shows and what `datasets` reads the files by."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    frames = sum(part.info["total_frames"] for part in found)
    data = DatasetCardData(
        pretty_name=PRETTY_NAME,
        license=license,
        tags=TAGS,
        task_categories=TASKS,
        size_categories=[size_category(frames)],
        # No sizes where `datasets` would look for them: it refuses data that has grown since, or is filtered.
        dmask={"frames": frames, "bytes": sum(part.bytes for part in found)},
    )
    default = _default(found)
    configs: dict[str, dict[str, Any]] = {}
    infos = {}
    for config in dict.fromkeys(part.config for part in found):
        mine = [part for part in found if part.config == config]
        paths = [{"split": p.split, "path": f"{config}/{p.split}/data/**/*.parquet"} for p in mine]
        configs[config] = {"data_files": paths}
        if config == default:
            configs[config]["default"] = True
        # `datasets` wants the same columns in all files of a config. Said here, a config whose masks are being
        # made, or were made for one split alone, can still be read.
        columns = common_columns(mine)
        configs[config]["columns"] = list(columns)
        infos[config] = DatasetInfo(features=columns)
    MetadataConfigs(configs).to_dataset_card_data(data)
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def _default(found: list[Part]) -> str:
    return read.default_config([part.config for part in found])


def size_category(frames: int) -> str:
    """The Hub's name of a number of rows: `n<1K`, `1K<n<10K`, …, `n>1T`."""
    above = [name for bound, name in _SIZES if frames < bound]
    below = [name for bound, name in _SIZES if frames >= bound]
    return f"n<{above[0]}" if not below else f"{below[-1]}<n<{above[0]}" if above else f"n>{below[-1]}"


def values_of(found: list[Part], name: str) -> dict[str, Any]:
    """What the template's body shows."""
    rows = [_row(part) for part in found]
    default = _default(found)
    columns = {name: feature for part in found for name, feature in part.info["features"].items()}
    versions = {
        ", ".join(f"{package} {version}" for package, version in sorted(part.record.get("versions", {}).items()))
        for part in found
    }
    videos = {part.spec.backgrounds for part in found}
    imported = any(isinstance(part.spec, Import) for part in found)
    states = [meaning for family, meaning in STATES.items() if any(part.spec.family == family for part in found)]
    meanings = MEANINGS | {schema.STATE: "; ".join(states)} | (AS_RECORDED if imported else {})
    return {
        "pretty_name": PRETTY_NAME,
        "name": name,
        "default": default,
        "split": next(part.split for part in found if part.config == default),
        "episodes": f"{sum(part.info['total_episodes'] for part in found):,}",
        "frames": f"{sum(part.info['total_frames'] for part in found):,}",
        "configs": len({part.config for part in found}),
        "rows": rows,
        "columns": [
            {"name": column, "type": _type(column, feature), "meaning": meanings.get(column, "")}
            for column, feature in columns.items()
        ],
        "versions": sorted(versions),
        "videos": ", ".join(sorted(videos)),
        "masks": sorted({row["mask"] for row in rows}),
        "solvable": any(schema.SUCCESS in part.info["features"] for part in found),
        "masked": _masked(found),
        "hung": any(
            getattr(part.spec, "camera", "topview") != "topview" for part in found if part.spec.family == "metaworld"
        ),
        "pictures": _pictures(found),
    }


def _masked(found: list[Part]) -> list[str]:
    """What the simulator's masks cover, a sentence for each kind of agent."""
    configs: dict[str, list[str]] = {}
    for part in (part for part in found if part.spec.masked):
        configs.setdefault(part.spec.masked, []).append(part.config)
    named = len(configs) > 1
    return [
        f"The simulator's {'of ' + ', '.join(dict.fromkeys(of)) + ' ' if named else ''}covers {what}."
        for what, of in configs.items()
    ]


def _pictures(found: list[Part]) -> list[dict[str, str]]:
    """One picture per config: of its first split that has one."""
    pictures = {}
    for part in sorted(found, key=lambda part: part.config != _default(found)):
        if (part.root / schema.SHEET).exists() and part.config not in pictures:
            path = f"{part.config}/{part.split}/{schema.SHEET}"
            pictures[part.config] = {"config": part.config, "split": part.split, "path": path}
    return list(pictures.values())


def _row(part: Part) -> dict[str, Any]:
    """One line of the table: what was measured, and a dash where nothing was."""

    def show(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    info, record = part.info, part.record
    height, width, _ = info["features"][schema.IMAGE]["shape"]
    return {
        "config": part.config,
        "split": part.split,
        "episodes": f"{info['total_episodes']:,}",
        "frames": f"{info['total_frames']:,}",
        "size": f"{height}×{width}",
        "mean_return": show(part.mean(schema.RETURN), ".1f"),
        "success": show(part.mean(schema.SUCCEEDED), ".1%"),
        "expert": show(record.get("expert_return"), ".1f"),
        "mask": mask_source(record["mask"]),
        schema.COVERAGE: show(part.mean(schema.COVERAGE), ".1%"),
        schema.IOU: show(part.mean(schema.IOU), ".3f"),
        "commands": commands(part),
    }


def mask_source(mask: dict[str, Any]) -> str:
    """What made the masks; of degraded ones, what was degraded and how."""
    of = mask.get("of")
    if mask["source"] != "corrupted" or not isinstance(of, dict) or "source" not in of:
        return str(mask["source"])
    how = ", ".join(
        f"{name} {value}" for name, value in mask.items() if name not in ("source", "of", "seed") and value
    )
    return f"{mask_source(of)}, corrupted ({how})"


def commands(part: Part) -> list[str]:
    """The lines that made a split: what generated it, what masked it, what edited it."""
    mask, edit = part.record["mask"], part.record.get("edit")
    masked = [read.mask_command(mask, part.config, part.split)] if "model" in mask else []
    return [*_made(part.record), *masked, *([edit["command"]] if edit else [])]


def _made(record: dict[str, Any]) -> list[str]:
    """The lines that made a split, but for the last that edited it."""
    if "edit" not in record:
        return [command(of_record(record["spec"]))]
    earlier = (of for of in record["edit"]["of"])
    lines = [line for of in earlier for line in (*_made(of), *([of["edit"]["command"]] if "edit" in of else []))]
    return list(dict.fromkeys(lines))


def _type(column: str, feature: dict[str, Any]) -> str:
    if column in schema.IMAGE_COLUMNS:
        height, width, channels = feature["shape"]
        return f"image {height}×{width}" + (f"×{channels}" if channels > 1 else "") + ", uint8, lossless"
    if column in schema.VECTOR_COLUMNS:
        return f"{feature['dtype']}[{feature['shape'][0]}]"
    return feature["dtype"]


def write_sheet(part: Part) -> None:
    """Write the part's contact sheet into its `meta/`, if its first shard is newer."""
    first, sheet = part.root / schema.data_file(0), part.root / schema.SHEET
    if schema.MASK not in part.info["features"]:
        return
    if not first.exists() or (sheet.exists() and sheet.stat().st_mtime_ns > first.stat().st_mtime_ns):
        return
    with storage.recorded_write(part.root, schema.SHEET) as temporary:
        draw_sheet(part.root, temporary)


def draw_sheet(root: Path, path: Path, frames: int = 8) -> None:
    """Draw a split's contact sheet into `path`, of frames spread over its first shard."""
    from distractor_data import media

    columns = [schema.IMAGE, schema.MASK]
    table = storage.read_frames(root, 0, columns)
    table = table.take(np.unique(np.linspace(0, len(table) - 1, frames).round().astype(np.int64)))
    images, masks = (storage.decode_images(table[column]) for column in columns)
    media.contact_sheet(images, masks, path, columns=frames)
