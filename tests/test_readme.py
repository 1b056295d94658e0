"""The README's commands, in its order, in miniature: as a new user types them in a fresh shell."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bare
import pytest
from hub_server import TOKEN, HubServer

from tests.test_backgrounds import write_frames, write_video

README = (bare.REPOSITORY / "README.md").read_text()


@dataclass(frozen=True)
class Mini:
    """Options added to a command, the last of which count, and words put in the place of others."""

    options: str = ""
    instead: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Left:
    """A command that is not run here."""

    reason: str


SMALL = "--steps 6 --image-size 32 --workers 1"
MODEL = "--model sam2.pt --image-size 64"
TRAIN = "--steps 3 --policy-steps 2 --decoder-steps 2 --batch 4 --res-blocks 0 --eval-episodes 0 --device cpu"
TABLE: dict[str, Mini | Left] = {
    "dmask generate --env walker --episodes 1000": Mini(f"--episodes 4 {SMALL}"),
    "dmask mask": Mini(MODEL),
    "dmask push data/distracting-dcs-masked org/distracting-dcs-masked": Mini(),
    'load_dataset("org/distracting-dcs-masked", "walker-run")': Mini(),
    "masklam train --env walker-run --method masklam": Mini(f"{TRAIN} --eval-episodes 1"),
    "masklam push runs/masklam-walker-run-0 org/masklam-walker-run": Mini(),
    "make demo": Left("makes an environment of its own; scripts/demo.py runs commands that are tested here"),
    "make test": Left("runs this"),
    "dmask generate --env cheetah --episodes 100 --backgrounds DAVIS/JPEGImages/480p --policy random --clean": Mini(
        f"--episodes 4 {SMALL}"
    ),
    "dmask generate --env cheetah --episodes 20 --backgrounds DAVIS/JPEGImages/480p --policy random --clean "
    "--split test": Mini(f"--episodes 1 {SMALL}"),
    "dmask generate --env metaworld/reach --env metaworld/drawer-open --episodes 100 --out data/metaworld": Mini(
        f"--episodes 1 {SMALL}"
    ),
    "dmask generate --env metaworld/mt10 --episodes 100 --steps-after-success 9 --mask-objects --out data/mt10": Mini(
        f"--episodes 1 {SMALL}", {"metaworld/mt10": "metaworld/push"}
    ),
    "dmask view data/distracting-dcs-masked --out page.html": Mini(),
    "dmask view data/distracting-dcs-masked --serve": Left("serves until Ctrl-C; tests/test_view.py looks at it"),
    "dmask preview data/distracting-dcs-masked --env walker --out walker.mp4": Mini(),
    "dmask generate --env walker --episodes 1000 --engine ray --out data/ray": Mini(f"--episodes 2 {SMALL}"),
    "dmask generate --env walker --episodes 1000 --engine ray --out s3://bucket/data": Mini(
        f"--episodes 2 {SMALL}", {"s3://bucket/data": "file://bucket/data"}
    ),
    "dmask pull s3://bucket/data data/whole": Mini(
        instead={"s3://bucket/data": "file://bucket/data", "data/whole": "data/pulled"}
    ),
    "dmask generate --env walker --episodes 1000 --shard 0/2 --out data/part-0": Mini(f"--episodes 8 {SMALL}"),
    "dmask generate --env walker --episodes 1000 --shard 1/2 --out data/part-1": Mini(f"--episodes 8 {SMALL}"),
    "dmask merge data/part-0 data/part-1 --out data/whole": Mini(),
    "dmask split data/whole data/most=0.75 data/rest=0.25": Mini(),
    "dmask delete-episodes data/most --episodes 0,2 --out data/fewer": Mini(),
    "dmask resize data/rest --image-size 32 --out data/rest-32": Mini(),
    "dmask import walker-run.hdf5 data/laom": Mini("--workers 1"),
    "dmask mask data/laom --prompt motion": Mini(MODEL),
    "dmask export data/distracting-dcs-masked --format laom --out exported": Mini(),
    "dmask mask data/distracting-dcs-masked --env cheetah --image-size 512": Mini(MODEL),
    "dmask mask data/distracting-dcs-masked --report-only": Mini(),
    "dmask mask video.mp4 --out masks --prompt box=120,40,300,420": Mini(MODEL),
    "dmask mask my-robot --image-column observation.images.top --prompt motion --out my-robot-masked": Mini(MODEL),
    "dmask generate --env hopper --episodes 100 --masks sam2": Mini(
        f"--episodes 1 {SMALL} --mask-model sam2.pt --mask-image-size 64"
    ),
    "dmask corrupt-masks data/distracting-dcs-masked --dilate 2 --drop 0.1 --out data/degraded": Mini(),
    "masklam train --env walker-run --method masklam --steps 10000 --latent-dim 64 --seed 0": Mini(TRAIN),
    "masklam train --env cheetah-run --method lapo --image-column observation.image_clean": Mini(TRAIN),
    "masklam train --env walker-run --method masklam --stages lam": Mini(TRAIN),
    "masklam train --dataset my-robot-masked --image-column observation.images.top": Mini(f"{TRAIN} --image-size 32"),
    "masklam study scripts/studies/cpu.toml --jobs 2": Left(
        "takes hours; tests/test_masklam_study.py runs a small one"
    ),
    "masklam view runs/masklam-walker-run-0 scripts/studies/results/cpu.parquet": Mini(
        instead={"scripts/studies/results/cpu.parquet": str(bare.REPOSITORY / "scripts/studies/results/cpu.parquet")}
    ),
    "torchrun --nproc-per-node 8 -m masklam.cli train --env walker-run --method masklam": Left(
        "wants eight devices; tests/test_masklam_distributed.py runs two processes"
    ),
    "hf auth login": Mini(f"--token {TOKEN}"),
    "dmask push data/distracting-dcs-masked org/distracting-dcs-masked --tag v1 --license cc-by-nc-4.0": Mini(),
    "dmask pull org/distracting-dcs-masked DIR --env cheetah --split test --revision v1": Mini(),
    "dmask generate --env walker --episodes 1000 --push org/distracting-dcs-masked": Mini(f"--episodes 4 {SMALL}"),
    "masklam push runs/masklam-walker-run-0 org/masklam-walker-run --dataset org/distracting-dcs-masked@v1": Mini(),
}


def commands(text: str) -> list[str]:
    """What the blocks hold, in order: each line of an indented block, each fenced block of Python as a whole."""
    found: list[str] = []
    block: list[str] | None = None
    for before, line in zip(["", *text.splitlines()], text.splitlines(), strict=False):
        if line.startswith("```"):
            if block is not None:
                found.append("\n".join(block))
            block = None if block is not None else []
        elif block is not None:
            block.append(line)
        elif line.startswith("    ") and (not before or before.startswith("    ")):
            found.append(re.sub(r"\s+#.*", "", line).strip())
    return found


COMMANDS = commands(README)


class Shell:
    """A folder, a home and a Hub of a new user's own; the Hub is known to those commands alone that need it."""

    def __init__(self, folder: Path, hub: HubServer) -> None:
        self.folder, self.python = folder, "from datasets import load_dataset\n"
        self.home = folder / "home"
        self.home.mkdir()
        self.hub = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        self.given = {"HF_TOKEN": TOKEN}  # until `hf auth login`

    def run(self, command: str, row: Mini) -> None:
        """Run one command, which must succeed."""
        if "\n" in command or command.startswith("load_dataset"):
            self.python += command + "\n"  # the blocks of Python are one session
            words = [sys.executable, "-c", self.python]
        else:
            words = [row.instead.get(word, word) for word in shlex.split(command)] + shlex.split(row.options)
            if words[0] == "hf":
                words = [sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:]]
                self.given = {}
        given = {"OMP_NUM_THREADS": "1"}  # threads only wait for each other on such small tensors
        given |= {**self.hub, **self.given} if "org/" in command or "hf " in command else {}
        done = bare.run(*words, cwd=self.folder, timeout=300, HOME=str(self.home), **given)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-1500:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """What the README takes for granted: DAVIS, a video, and SAM 2's weights, here random ones."""
    pytest.importorskip("sam2")
    pytest.importorskip("h5py")
    import laom_files
    import lerobot_files
    import sam2_weights

    folder = tmp_path_factory.mktemp("readme")
    for name in ("bear", "camel"):
        write_frames(folder / "DAVIS" / "JPEGImages" / "480p" / name)
    write_video(folder / "video.mp4", count=3, width=320, height=432)
    sam2_weights.save(folder / "sam2.pt")
    laom_files.write(folder / "walker-run.hdf5", episodes=2)
    lerobot_files.write_lerobot(folder / "my-robot", video=True)
    with HubServer(folder / "hub") as hub:
        yield Shell(folder, hub)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.splitlines()[0][:60])
def test_a_command_of_the_readme(shell, command):
    row = Mini() if "\n" in command else TABLE.get(command)
    assert row is not None, f"README.md has a command that TABLE doesn't know: {command}"
    if isinstance(row, Left):
        pytest.skip(row.reason)
    shell.run(command, row)


def test_the_table_holds_nothing_else():
    assert set(TABLE) == {command for command in COMMANDS if "\n" not in command}
