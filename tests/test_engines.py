"""Engines give the same bytes; lost workers and nodes, full disks and signals lose nothing and are told in a line."""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import bare
import pytest
from damage import contents

from distractor_data import engines
from distractor_data import generate as generation
from distractor_data.dataset import meta, storage
from distractor_data.engines import run_local
from distractor_data.envs import devices as egl
from distractor_data.errors import DmaskError, PassingError
from distractor_data.events import Made
from distractor_data.hub.bucket import Bucket
from distractor_data.pipeline import generate
from distractor_data.publish_bucket import Delivery, folder_of
from distractor_data.spec import Spec

SPEC = Spec(env="cheetah-run", policy="random", episodes=6, steps=12, image_size=16, seed=3)
ROOT = Path(SPEC.env, SPEC.split)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the split of SPEC holds, as processes of this machine make it."""
    out = tmp_path_factory.mktemp("whole")
    generate(SPEC, out, workers=1)
    return contents(out / ROOT)


# --- lost workers --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Failing:
    """In a worker: twice a number; the `bad` one fails in its `way`, as often as `times` says."""

    folder: Path
    way: str
    times: int
    bad: int = 2

    def __call__(self, number: int) -> int:
        seen = len(list(self.folder.iterdir()))
        if number == self.bad and seen < self.times:
            (self.folder / str(seen)).touch()
            if self.way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise PassingError("the OpenGL driver failed; run the same command again")
        return 2 * number


@pytest.mark.parametrize("way", ["killed", "context"])
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_lost_worker_was_at_is_done_by_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str, workers: int
) -> None:
    with caplog.at_level(logging.WARNING):
        results = list(run_local(Failing(tmp_path, way, times=1), range(6), workers))
    assert sorted(results) == [(number, 2 * number) for number in range(6)]
    assert len(list(tmp_path.iterdir())) == 1
    (line,) = (record.getMessage() for record in caplog.records)
    assert "going on with --workers 1" in line
    assert ("killed" if way == "killed" else "OpenGL") in line


@pytest.mark.parametrize(("way", "words"), [("killed", "want of memory.*run the same"), ("context", "OpenGL driver")])
def test_a_worker_that_is_always_lost_is_one_line(tmp_path: Path, way: str, words: str) -> None:
    with pytest.raises(DmaskError, match=words) as raised:
        list(run_local(Failing(tmp_path, way, times=99), [2], 1))
    assert "\n" not in str(raised.value)
    assert len(list(tmp_path.iterdir())) == 2  # once more, and no more


def test_workers_that_the_kernel_kills_cost_no_byte(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """One of two workers is killed from outside, as the kernel does for want of memory."""
    killed = []

    def kill(event: Any) -> None:
        if isinstance(event, Made) and not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    generate(SPEC, tmp_path, workers=2, on_event=kill)
    assert killed
    assert contents(tmp_path / ROOT) == whole


# --- EGL devices -----------------------------------------------------------------------------------------------


def drawn_on(devices: tuple[int, ...], number: int) -> tuple[int, str]:
    """In a worker: its process, and the device that it was given."""
    egl.take_turn(devices, engines.worker() or 0)
    time.sleep(0.2)  # so that all get something to do
    return os.getpid(), os.environ[egl.CHOICE]


def test_workers_take_turns_with_the_devices() -> None:
    work = functools.partial(drawn_on, (0, 2, 3))
    given = dict(found for _, found in run_local(work, range(24), 4))
    assert len(given) == 4
    assert sorted(Counter(given.values()).values()) == [1, 1, 2]
    assert {*given.values()} == {"0", "2", "3"}
    assert engines.worker() is None


def test_devices_that_draw_otherwise_or_not_at_all_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three there is only the first: the driver refuses the others, each in a process of its own."""
    assert egl.to_draw_on() == ()  # nothing to choose
    monkeypatch.setattr(egl, "count", lambda: 3)
    assert egl.to_draw_on() == (0,)
    monkeypatch.setattr(egl, "_DESCRIBE", egl._DESCRIBE.replace("gl.describe()", "'another card'"))
    assert egl.to_draw_on() == ()
    monkeypatch.setenv(egl.CHOICE, "0")
    monkeypatch.setattr(egl, "_described", None)
    assert egl.to_draw_on() == ()  # it was chosen


# --- signals and full disks ------------------------------------------------------------------------------------


def arguments(out: Path, episodes: int = SPEC.episodes) -> list[str]:
    options = f"--env {SPEC.env} --policy random --episodes {episodes} --steps {SPEC.steps} --image-size 16 --seed 3"
    return ["generate", *options.split(), "--workers", "2", "--out", str(out)]


def command(out: Path, episodes: int) -> list[str]:
    return [sys.executable, "-m", "distractor_data.cli", *arguments(out, episodes)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    run = subprocess.Popen(
        command(tmp_path, 400), cwd=bare.REPOSITORY, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    while run.poll() is None and not any(tmp_path.rglob("episode-*.parquet")):
        time.sleep(0.01)
    os.killpg(run.pid, number)  # as a terminal and a scheduler do: to all
    stderr = run.communicate(timeout=30)[1]
    assert run.returncode == 128 + number, stderr
    lines = [line for line in stderr.splitlines() if line and "episodes" not in line and "going on" not in line]
    assert lines == [
        f"dmask: stopped by {number.name}; run the same command again to go on: what was written is whole and kept"
    ]
    group = ["ps", "-o", "stat=", "--no-headers", "-g", str(run.pid)]
    for _ in range(100):  # multiprocessing's own tracker goes last
        states = subprocess.run(group, capture_output=True, text=True).stdout.split()
        if not any(state[0] != "Z" for state in states):
            break
        time.sleep(0.1)
    else:
        pytest.fail("processes outlived the run by 10 seconds")
    assert not meta.damaged(tmp_path / ROOT)
    with storage.lock(tmp_path / ROOT):
        pass


HOLDING = """
import sys, time
from pathlib import Path
from distractor_data.dataset import storage
from distractor_data.engines import run_local
with storage.lock(Path(sys.argv[1])):
    list(run_local(time.sleep, [60], 1))
"""


def test_the_lock_goes_with_its_owner_though_workers_may_outlive_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], cwd=bare.REPOSITORY) as owner:
        listing = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(owner.pid)]
        worker = ""
        while owner.poll() is None and not worker:
            listed = subprocess.run(listing, capture_output=True, text=True).stdout.splitlines()
            worker = next((line.split()[0] for line in listed if "spawn_main" in line), "")
        os.kill(int(worker), signal.SIGSTOP)  # it can't see that its owner is gone
        try:
            with pytest.raises(DmaskError, match="another run is writing"), storage.lock(tmp_path):
                pass
            owner.kill()
            owner.wait()
            with storage.lock(tmp_path):
                assert Path("/proc", worker).exists()
        finally:
            os.kill(int(worker), signal.SIGKILL)


def test_a_full_disk_is_one_line_and_what_was_written_is_whole(tmp_path: Path) -> None:
    """A real one, of 300 kB, which only the run sees; its contents are copied out before it goes."""
    there = f"mount -t tmpfs -o size=300k none {tmp_path}/disk"
    (tmp_path / "disk").mkdir()
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*apart, there], capture_output=True).returncode:
        pytest.skip("needs namespaces, which this machine doesn't allow")
    run = '"$@"; code=$?; cp -r "$0/disk" "$0/copy"; exit $code'
    done = subprocess.run(
        [*apart, f"{there} && {run}", str(tmp_path), *command(tmp_path / "disk", 400)],
        cwd=bare.REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "episodes" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"dmask: error: {os.strerror(errno.ENOSPC)}")
    assert "make room" in lines[0]
    assert not meta.damaged(tmp_path / "copy" / ROOT)
    assert any((tmp_path / "copy" / ROOT / storage.PARTS).glob("episode-*.parquet"))


# --- Ray ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_nodes_one_of_which_is_lost_in_the_middle_give_the_same_bytes(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    node, made = cluster.add_node(num_cpus=1), []

    def remove(event: Any) -> None:
        if isinstance(event, Made):
            made.append(event)
            if len(made) == 2:
                cluster.remove_node(node, allow_graceful=False)

    generate(SPEC, tmp_path, on_event=remove, engine=engines.engine("ray", cluster.address))
    assert len(made) == SPEC.episodes
    assert contents(tmp_path / ROOT) == whole


@pytest.mark.slow
def test_what_a_lost_actor_was_at_is_done_by_another_that_is_left_or_new(cluster: Any, tmp_path: Path) -> None:
    def make() -> Any:
        import os
        import signal

        def double(number: int) -> int:
            if number in (0, 1, 4) and not (tmp_path / str(number)).exists():  # two actors at once, then one
                (tmp_path / str(number)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return 2 * number

        return double

    cluster.add_node(num_cpus=1)
    assert sorted(engines.actors("ray", cluster.address)(make, range(6))) == [(n, 2 * n) for n in range(6)]


@pytest.mark.slow
def test_an_actor_that_is_always_lost_is_one_line(cluster: Any) -> None:
    def make() -> Any:
        import os

        return lambda number: os._exit(1)

    with pytest.raises(DmaskError, match=r"Ray lost a task 6 times .*run the same command again") as raised:
        list(engines.actors("ray", cluster.address)(make, [0, 1]))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_nodes_that_share_no_folder_send_episodes_to_a_url(
    cluster: Any, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMASK_CACHE", str(tmp_path / "cache"))
    cluster.add_node(num_cpus=1)
    bucket, run = Bucket(f"file://{tmp_path}/bucket"), engines.engine("ray", cluster.address)
    generate(SPEC, folder_of(bucket), engine=run, push=Delivery(bucket, apart=True))
    there = contents(tmp_path / "bucket" / ROOT)
    assert {name: whole[name] for name in there if not name.endswith(".png")} == {
        name: content for name, content in there.items() if not name.endswith(".png")
    }
    assert any(name.startswith("data/") for name in there)


def test_no_cluster_is_one_line(refusal: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    line = refusal(*arguments(tmp_path / "out"), "--engine", "ray", "--address", "127.0.0.1:1")
    assert "no Ray cluster at 127.0.0.1:1" in line


@pytest.mark.slow
def test_what_a_task_raises_is_raised_here_and_a_node_without_our_code_is_named(cluster: Any, tmp_path: Path) -> None:
    run = engines.engine("ray", cluster.address)
    with pytest.raises(DmaskError, match=r"holds no dataset|is missing"):
        list(run(meta.read_record, [tmp_path]))
    with pytest.raises(DmaskError, match=r"No module named .*install the same dmask on all"):
        list(run(Failing(tmp_path, "killed", times=0), [0]))  # no worker can import this file


def test_a_node_that_would_draw_other_pixels_is_refused(tmp_path: Path) -> None:
    """Whatever machine a worker is on, it draws with what the record says."""
    generate(SPEC, tmp_path, workers=1)
    versions = meta.read_record(tmp_path / ROOT)["versions"] | {"renderer": "another card"}
    with pytest.raises(DmaskError, match=r"drawn by another card; on .* it would be .*use nodes"):
        generation._Work(SPEC, tmp_path / ROOT, tuple(versions.items()), 100, generation._code())(0)
    with pytest.raises(DmaskError, match="has another dmask than began the run; install the same"):
        generation._Work(SPEC, tmp_path / ROOT, tuple(versions.items()), 100, "0" * 64)(0)


def test_without_ray_its_installation_is_named(refusal: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'dmask[ray]'" in refusal(*arguments(tmp_path / "out"), "--engine", "ray")
