"""What tests share: folders that are not part of the repository, and a Hub on loopback, which no test leaves.

Its address is set before anything imports `huggingface_hub`, which reads it only once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import small_dataset
from browser import chromium, page
from hub_server import TOKEN, HubServer

__all__ = ["chromium", "page"]  # fixtures

_FOLDER = tempfile.TemporaryDirectory(prefix="dmask-tests-")
_HUB = HubServer(Path(_FOLDER.name) / "none").__enter__()
os.environ.update(
    HF_ENDPOINT=_HUB.url,
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HOME=f"{_FOLDER.name}/home",
    DMASK_CACHE=f"{_FOLDER.name}/cache",
)
for variable in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(variable, None)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _folder(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs ../shared/{name}, which is not part of the repository")
    return SHARED / name


@pytest.fixture(scope="session")
def real_backgrounds() -> Path:
    """Real videos, `train` and `val`, in the layout of DAVIS."""
    return _folder("backgrounds")


@pytest.fixture(scope="session")
def published_experts() -> Path:
    """The LAOM authors' policies."""
    return _folder("experts")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub, and a token that may write to `alice` and `org` in the environment."""
    _HUB.reset(tmp_path / "hub")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield _HUB
    _HUB.reset(Path(_FOLDER.name) / "none")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting before a retry takes no time; returns how long it would have been, each time."""
    waited: list[float] = []
    sleep: Callable[[float], None] = time.sleep

    def hurry(seconds: float) -> None:
        waited.append(seconds)
        sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", hurry)
    return waited


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `folder` copies."""
    directory = tmp_path_factory.mktemp("made") / "data"
    for seed, config in enumerate(("walker-run", "cheetah-run")):
        small_dataset.write(directory, config, "train", shards=2, seed=seed)
        small_dataset.write(directory, config, "test", shards=1, seed=seed)
    return directory


@pytest.fixture
def folder(made_once: Path, tmp_path: Path) -> Path:
    """A dataset of two configs with two shards of training episodes and one of test episodes each."""
    return Path(shutil.copytree(made_once, tmp_path / "data"))


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What runs `dmask` in this process and returns the one line that it is refused with."""
    from distractor_data import cli
    from distractor_data.errors import run_cli

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["dmask", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_cli(cli.app, "dmask")
        stdout, stderr = capfd.readouterr()
        assert ended.value.code == 2, stderr
        assert stdout == ""
        assert stderr.startswith("dmask: error: ")
        assert stderr.count("\n") == 1
        assert stderr.rstrip("\n").isprintable()
        return stderr

    return run


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one config and split, of two shards, and its card."""
    from dmask_cards.dataset import write_card

    directory = tmp_path_factory.mktemp("one") / "data"
    small_dataset.write(directory, "walker-run")
    write_card(directory)
    return directory


@pytest.fixture
def mine(one: Path, tmp_path: Path) -> Path:
    """A copy of it in a folder of its own, beside which a private file lies."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "precious").write_text("mine alone")
    return Path(shutil.copytree(one, tmp_path / "mine"))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A simulated node of Ray with a core; tests add others."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module")
def decoded_frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of decoded frames of the module's own, and one thread for its training."""
    import torch

    torch.set_num_threads(1)  # small tensors; more threads only wait for each other
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMASK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of SAM 2.1 hiera-tiny with random weights."""
    pytest.importorskip("sam2")
    import sam2_weights

    return sam2_weights.save(tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt")
