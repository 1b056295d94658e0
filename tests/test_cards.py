"""The dataset card says what is in the folder, `datasets` reads by it, and what hands wrote survives."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import small_dataset
from huggingface_hub import DatasetCard
from PIL import Image

from distractor_data import media, schema
from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from distractor_data.pipeline import generate
from distractor_data.spec import Spec
from dmask_cards.dataset import SHEET, write_card
from dmask_cards.template import kept, stated_license
from masklam import card as model_card
from masklam.run import Run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_datasets_reads_the_folder_by_its_card(folder: Path) -> None:
    write_card(folder)
    data = datasets.load_dataset(str(folder))  # the default config
    assert {split: len(rows) for split, rows in data.items()} == {"train": 48, "test": 24}
    expected = small_dataset.episode(1)
    rows = data["train"].select(range(12, 24))
    for t, row in enumerate(rows):
        assert np.array_equal(np.asarray(row[schema.IMAGE]), expected.image[t])
        assert np.array_equal(np.asarray(row[schema.MASK]), expected.mask[t] * 255)
    cheetah = datasets.load_dataset(str(folder), "cheetah-run", split="test", streaming=True)
    assert sum(1 for _ in cheetah) == 24
    assert cheetah.features[schema.STATE] == datasets.List(datasets.Value("float32"), length=small_dataset.STATE)


def test_metadata_comes_from_the_data(folder: Path) -> None:
    card = DatasetCard.load(write_card(folder, "org/name"))
    data = card.data.to_dict()
    assert [c["config_name"] for c in data["configs"] if c.get("default")] == ["walker-run"]
    files = folder.glob("*/*/data/**/*.parquet")
    assert data["dmask"] == {"frames": 2 * (48 + 24), "bytes": sum(file.stat().st_size for file in files)}
    assert data["size_categories"] == ["n<1K"]
    assert data["license"] == "cc-by-4.0"
    assert 'load_dataset("org/name"' in card.text
    assert "| walker-run | train | 4 | 48 | 16×16 |" in card.text
    assert DatasetCard(str(card)).data.to_dict() == data


def test_only_synthetic_backgrounds_have_a_licence_of_their_own(tmp_path: Path) -> None:
    small_dataset.write(tmp_path, "walker-run", "train", backgrounds="/videos/DAVIS")
    path = write_card(tmp_path)
    assert DatasetCard.load(path).data.license is None
    assert "/videos" not in path.read_text()
    assert DatasetCard.load(write_card(tmp_path, license="cc-by-nc-4.0")).data.license == "cc-by-nc-4.0"


def test_hand_written_sections_survive(folder: Path) -> None:
    path = write_card(folder)
    mine = "<!-- keep about -->\nMade for *us*.\n<!-- /keep -->"
    own = "<!-- keep ours -->\n## Ours\n<!-- /keep -->"
    text = path.read_text().replace("<!-- keep about -->\n<!-- /keep -->", mine) + own
    path.write_text(text)
    small_dataset.write(folder, "hopper-hop", "train")
    again = write_card(folder).read_text()
    assert mine in again
    assert again.count(own) == 1
    assert "hopper-hop" in again
    assert write_card(folder).read_text() == again


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DmaskError, match="holds no dataset"):
        write_card(tmp_path)


def test_contact_sheet_shows_frames_masks_and_overlays(folder: Path, tmp_path: Path) -> None:
    images, masks = (array[:3] for array in (small_dataset.episode(0).image, small_dataset.episode(0).mask))
    sheet = np.asarray(Image.open(media.contact_sheet(images, masks, tmp_path / "sheet.png")))
    scale, gap = 96 // small_dataset.SIZE, media.GAP
    rows = [sheet[gap + row * (96 + gap) :, gap:][:96:scale, :96:scale] for row in range(3)]
    assert np.array_equal(rows[0], images[0])
    assert np.array_equal(rows[1], np.repeat(masks[0][..., None] * 255, 3, -1))
    outside = ~masks[0]
    assert np.array_equal(rows[2][outside], images[0][outside])
    assert (rows[2][~outside, 0] >= images[0][~outside, 0]).all()
    assert sheet.shape == (3 * (96 + gap) + gap, 3 * (96 + gap) + gap, 3)
    write_card(folder)
    assert (folder / "walker-run/train/meta" / SHEET).exists()


def test_the_masks_origin_is_said(folder: Path) -> None:
    for config, mask in (
        ("walker-run", {"source": "tiny", "model": "facebook/tiny", "prompt": "simulator", "image_size": 256}),
        ("cheetah-run", {"source": "corrupted", "of": {"source": "simulator"}, "dilate": 2, "erode": 0, "seed": 1}),
    ):
        record = storage.read_json(folder / config / "train" / schema.DMASK)
        storage.write_json(folder / config / "train" / schema.DMASK, record | {"mask": mask})
    text = write_card(folder).read_text()
    assert "| – | tiny |" in text
    assert "| – | simulator, corrupted (dilate 2) |" in text
    command = "dmask mask --env walker-run --split train --model facebook/tiny --image-size 256 --prompt simulator"
    assert f"- `{command}`" in text
    assert "they are exact" not in text


# --- values and texts of strangers -----------------------------------------------------------------------------

EVIL = (
    "<!-- keep about -->evil<!-- /keep -->",
    "<script>alert(1)</script>",
    "x\n\n# A heading\n\n- a list",
    "x | y | z",
    "[here](https://evil.example)",
    "![picture](https://evil.example/x.png)",
    "`code` and **bold** and _slanted_ ~~gone~~",
    "https://evil.example and www.evil.example",
    "&lt;b&gt; &amp; \x1b[2J\u202e",
    '"""; import os; os.system("x") #',
    "{{ 7 * 7 }} {% raw %}",
    "---\nlicense: mit\n---",
    "```\nnot code",
)


def tokens(text: str) -> list[str]:
    """Kinds of all blocks and inlines of a text in Markdown, by a parser of it, and where its links lead."""
    from markdown_it import MarkdownIt

    found = []
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        found.append(block.type)
        found += [f"{child.type} {child.attrGet('href') or ''}" for child in block.children or []]
    return found


@pytest.mark.parametrize("evil", EVIL)
def test_values_of_a_record_are_text_in_the_card_and_nothing_else(folder: Path, evil: str) -> None:
    file = folder / "walker-run" / "train" / schema.DMASK
    record = storage.read_json(file)

    def card(value: str) -> DatasetCard:
        name = "".join(letter for letter in value if letter.isprintable()).rpartition("/")[2] or "x"
        spec = record["spec"] | {"backgrounds": name, "policy": name}  # a folder and a file
        versions = record["versions"] | {"mujoco": value}
        mask = {"source": value, "model": value, "prompt": value}
        storage.write_json(file, record | {"spec": spec, "versions": versions, "mask": mask})
        text = write_card(folder, license="cc-by-4.0").read_text()
        again = write_card(folder, license="cc-by-4.0").read_text()
        assert text == again  # nothing of it is taken for what hands wrote
        return DatasetCard(text)

    plain, strange = card("plain"), card(evil)
    assert strange.data.to_dict() == plain.data.to_dict()
    assert tokens(strange.text).count("html_block") == tokens(plain.text).count("html_block")
    kinds = {"heading_open", "bullet_list_open", "list_item_open", "fence", "table_open", "tr_open", "td_open"}
    for kind in kinds | {token for token in tokens(strange.text) if token.startswith(("link", "image", "strong"))}:
        assert tokens(strange.text).count(kind) == tokens(plain.text).count(kind), kind
    assert "<script" not in strange.text
    assert "\x1b" not in strange.text
    assert not re.search(r"(https?:|www\.)(//)?evil", re.sub(r"`[^`\n]*`", "", strange.text))
    assert "{{ 7 * 7 }}" in strange.text or "7 * 7" not in evil
    for block in re.findall(r"```python\n(.*?)```", strange.text, re.DOTALL):
        ast.parse(block)


def test_a_folders_name_is_a_string_in_the_card(folder: Path) -> None:
    strange = folder.rename(folder.with_name('x"; import os #```'))
    blocks = re.findall(r"```python\n(.*?)\n```", write_card(strange).read_text(), re.DOTALL)
    assert len(blocks) == 4
    for nodes in ([*ast.walk(ast.parse(block))] for block in blocks):
        assert strange.name in [node.value for node in nodes if isinstance(node, ast.Constant)]
        assert not [node for node in nodes if isinstance(node, ast.Import) and node.names[0].name == "os"]


@pytest.mark.parametrize(
    "text",
    [
        "<!-- keep a -->" * 100_000,
        "<!-- keep a" * 100_000,
        "<!-- /keep -->" * 100_000,
        "<!-- keep " + "a" * 1_000_000,
        "<!-- keep a -->x<!-- /keep -->" * 50_000,
    ],
    ids=["opened", "begun", "closed", "a long name", "many"],
)
def test_sections_to_keep_are_found_in_linear_time(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(DmaskError):
        kept(text, "README.md")
    assert time.process_time() - started < 1


def test_a_section_that_is_not_closed_is_named_and_not_lost(folder: Path) -> None:
    path = write_card(folder)
    before = path.read_text().replace("<!-- keep about -->\n<!-- /keep -->", "<!-- keep about -->\nOurs.")
    before = before[: before.index("## Limits")]
    path.write_text(before)
    with pytest.raises(DmaskError, match=r"README\.md: <!-- keep about --> has no <!-- /keep -->"):
        write_card(folder)
    assert path.read_text() == before


def test_a_readme_of_other_hands_is_not_replaced(folder: Path) -> None:
    (folder / "README.md").write_text("# My thesis\n")
    runs = Run(folder)
    for act in (lambda: write_card(folder), lambda: generate(Spec(), folder), lambda: model_card.check(runs)):
        with pytest.raises(DmaskError, match=r"README\.md is no card of ours and would be lost"):
            act()
    assert (folder / "README.md").read_text() == "# My thesis\n"


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("---\nlicense: cc-by-4.0\n---\n", "cc-by-4.0"),
        ("---\nlicense: [mit, other]\n---\n", None),
        ("---\nlicense: 'x\n\n  # Heading'\n---\n", None),
        ("---\nlicense: {a: b}\n---\n", None),
        ("---\n[unclosed\n---\n", None),
        ("---\n" + "[" * 5_000 + "\n---\n", None),
        ("---\n!!python/object/apply:os.system ['x']\n---\n", None),
        ("---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: *b\n---\n", None),
        ("no metadata", None),
    ],
)
def test_only_the_name_of_a_licence_is_taken_from_a_card(text: str, license: str | None) -> None:
    assert stated_license(text) == license


def test_data_that_has_grown_or_is_filtered_is_read(folder: Path, tmp_path: Path) -> None:
    """A card that stated sizes would make `datasets` refuse what has other ones."""
    shutil.copytree(folder, tmp_path / "copy")
    write_card(tmp_path / "copy")
    config = tmp_path / "copy" / "walker-run" / "train"
    more = config / schema.data_file(0)
    shutil.copyfile(more, config / schema.data_file(7))
    read = datasets.load_dataset(str(tmp_path / "copy"), "walker-run", split="train", cache_dir=str(tmp_path / "a"))
    assert len(read) == 48 + 24
    few = datasets.load_dataset(
        str(tmp_path / "copy"), "walker-run", split="test", filters=[("frame_index", "<", 3)], cache_dir=str(tmp_path)
    )
    assert set(few["frame_index"]) == {0, 1, 2}


def test_the_folder_of_a_split_is_read_without_its_records(folder: Path, tmp_path: Path) -> None:
    read = datasets.load_dataset(str(folder / "walker-run" / "train"), cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in read.items()} == {"train": 48}
    assert schema.IMAGE in read["train"].features
