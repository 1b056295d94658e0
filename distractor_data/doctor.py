"""What this machine can do and what keeps it from more: each finding is looked up or measured now."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distractor_data.errors import DmaskError, plain

LOCK = Path(__file__).parents[1] / "requirements.lock"  # in a checkout
SECONDS = 2.0  # for which drawing is measured
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mjpeg")
GIGABYTE = 1e9
CONNECT = "check the connection and HF_ENDPOINT"


@dataclass(frozen=True)
class Finding:
    """One line: whether all is well with `what`, what was found, and the command that mends it."""

    what: str
    ok: bool
    found: str
    cure: str = ""
    needed: bool = False  # by `dmask generate`


def examine() -> Iterator[Finding]:
    """Everything, one finding after the other."""
    yield from packages()
    drawn = list(drawing())
    yield from (finding for finding, _ in drawn)
    yield from gpus()
    yield weights()
    yield codecs()
    yield from hub()
    yield from disks()
    yield memory(max([used for _, used in drawn], default=0))


# --- what is installed -----------------------------------------------------------------------------------------


def packages() -> Iterator[Finding]:
    """Python and what `dmask` requires, in the ranges that its own metadata has; its extras; the lock file."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        metadata: Any = importlib.metadata.metadata("dmask")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("dmask", False, "is not installed", "pip install -e .", needed=True)
        return
    tried, version = SpecifierSet(metadata["Requires-Python"] or ""), platform.python_version()
    cure = f"make an environment with another Python: uv venv --python '{tried}'"
    yield Finding("Python", tried.contains(version, prereleases=True), f"{version} (tried: {tried})", cure, True)
    wanted = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    yield _installed("packages", [one for one in wanted if applies(one, "")], needed=True)
    for extra in metadata.get_all("Provides-Extra") or []:
        mine = [one for one in wanted if applies(one, extra) and not applies(one, "")]
        if mine and extra != "dev" and not any(one.name == "dmask" for one in mine):
            yield _installed(f"dmask[{extra}]", mine, cure=f"pip install 'dmask[{extra}]'")
    if LOCK.exists():
        locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE))
        there = {name: have for name in locked if (have := version_of(name))}
        same = {name: SpecifierSet(f"=={locked[name]}").contains(have) for name, have in there.items()}
        other = [f"{name} {there[name]} (locked: {locked[name]})" for name in there if not same[name]]
        found = ", ".join(other) if other else f"{len(there)} packages are those of {LOCK.name}"
        yield Finding("lock", not other, found, f"pip install -r {LOCK.name}")


def applies(requirement: Any, extra: str) -> bool:
    """Whether a requirement counts here, with an extra or, for an empty one, without any."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def version_of(name: str) -> str | None:
    """The version of a package that is installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed(what: str, wanted: list[Any], needed: bool = False, cure: str = "") -> Finding:
    have = {str(one.name): version_of(one.name) for one in wanted}
    wrong = [one for one in wanted if not one.specifier.contains(have[one.name] or "0", prereleases=True)]
    wrong += [one for one in wanted if have[one.name] is None and one not in wrong]
    if not wrong:
        shown = ", ".join(f"{name} {version}" for name, version in have.items())
        return Finding(what, True, shown, needed=needed)
    found = ", ".join(
        f"{one.name} {have[one.name] or 'is missing'} (tried: {one.specifier or 'any'})" for one in wrong
    )
    names = " ".join(f"'{one.name}{one.specifier}'" for one in wrong)
    return Finding(what, False, found, cure or f"pip install {names}", needed)


# --- what draws and what computes ------------------------------------------------------------------------------


def drawing() -> Iterator[tuple[Finding, int]]:
    """What OpenGL draws on, how fast, and the bytes of memory that took; then the other EGL devices."""
    told = _draw_in_a_process({})
    rate = "{renderer}: {rate:.0f} frames/s of walker-run in one process"
    if "error" in told:
        yield Finding("OpenGL", False, told["error"], needed=True), 0
        return
    yield Finding("OpenGL", True, rate.format(**told), needed=True), told["memory"]
    if told["devices"] > 1 and "MUJOCO_EGL_DEVICE_ID" not in os.environ:
        for device in range(told["devices"]):
            other = _draw_in_a_process({"MUJOCO_EGL_DEVICE_ID": str(device)})
            found = other.get("error") or f"{rate.format(**other)}; {_spread(other['renderer'], told['renderer'])}"
            yield Finding(f"EGL device {device}", "error" not in other, f"{found} (MUJOCO_EGL_DEVICE_ID={device})"), 0


def _spread(renderer: str, first: str) -> str:
    if renderer == first:
        return "workers are spread over all that draw alike"
    return "it draws other pixels than the first, and is left to who chooses it"


def _draw_in_a_process(variables: dict[str, str]) -> dict[str, Any]:
    """What `draw` prints, in a process of its own: a driver may end it."""
    command = [sys.executable, "-c", "from distractor_data import doctor; doctor.draw()"]
    try:
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)
        told = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "the driver did not answer for two minutes"}
    except (IndexError, ValueError):
        last = plain((done.stderr.splitlines() or ["it said nothing"])[-1])
        return {"error": f"the process that draws ended with code {done.returncode}: {last}"}
    return told


def draw() -> None:
    """Draw for a while as `dmask generate` does, and print what was found as JSON."""
    import resource
    import time

    import numpy as np

    try:
        from distractor_data import envs
        from distractor_data.envs import devices
        from distractor_data.spec import Spec

        spec = Spec(policy="random")
        env = envs.make(spec, 0)
        env.reset()
        frames, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < SECONDS:
            env.step(np.zeros(env.action_size))
            frames += 1
        env.close()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        told = {"renderer": envs.renderer(), "rate": frames / spent, "memory": memory, "devices": devices.count()}
    except DmaskError as error:
        told = {"error": str(error)}
    print(json.dumps(told))


def gpus() -> Iterator[Finding]:
    """What PyTorch computes on."""
    try:
        import torch
    except ImportError:
        return  # its extras are told of already
    for index in range(torch.cuda.device_count()):
        told = torch.cuda.get_device_properties(index)
        found = f"{told.name}, {told.total_memory / GIGABYTE:.0f} GB, CUDA {torch.version.cuda}"
        yield Finding(f"GPU {index}", True, found)
    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi") is not None
        found = f"torch {torch.__version__} sees none" + ("" if driver else ": masks and training take the processor")
        yield Finding(
            "GPU", not driver, found, "pip install torch --index-url https://download.pytorch.org/whl/cu126"
        )


def weights() -> Finding:
    """SAM 2 and its weights in the Hub's cache."""
    try:
        from distractor_data.masks.model import DEFAULT_MODEL, HF_MODEL_ID_TO_FILENAMES
    except DmaskError as error:
        return Finding("SAM 2", False, str(error), "pip install 'dmask[sam2]'")
    from huggingface_hub import try_to_load_from_cache

    here = [
        name
        for name, (_, file) in HF_MODEL_ID_TO_FILENAMES.items()
        if isinstance(try_to_load_from_cache(name, file), str)
    ]
    if DEFAULT_MODEL in here:
        return Finding("SAM 2", True, f"weights of {', '.join(here)}")
    found = f"no weights of {DEFAULT_MODEL} in the Hub's cache"
    cure = f"hf download {DEFAULT_MODEL} {HF_MODEL_ID_TO_FILENAMES[DEFAULT_MODEL][1]}, or give --model FILE"
    return Finding("SAM 2", False, found, cure)


def codecs() -> Finding:
    """What videos are read and written by."""
    import av
    from PIL import features

    missing = [name for name in DECODERS if not _has_codec(av, name, "r")]
    missing += [] if _has_codec(av, "libx264", "w") else ["libx264 (to write)"]
    missing += [] if features.check("webp") else ["WebP"]
    if missing:
        found = f"missing: {', '.join(missing)}"
        return Finding("codecs", False, found, "pip install --force-reinstall av pillow", needed="WebP" in missing)
    return Finding("codecs", True, f"{', '.join(DECODERS)}; libx264; WebP", needed=True)


def _has_codec(av: Any, name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)
    except ValueError:
        return False
    return True


# --- what is around it -------------------------------------------------------------------------------------------


def hub() -> Iterator[Finding]:
    """Whether the Hub answers, and as whom."""
    from huggingface_hub import constants, get_token

    from distractor_data.hub.patience import hub_errors
    from distractor_data.hub.repository import api_of

    if not get_token():
        reached = _reached(constants.ENDPOINT)
        yield Finding(
            "Hub", reached, constants.ENDPOINT if reached else f"{constants.ENDPOINT} does not answer", CONNECT
        )
        yield Finding("login", False, "none: nothing can be pushed", "hf auth login")
        return
    try:
        with hub_errors(constants.ENDPOINT, "ask"):
            user = api_of().whoami()
    except DmaskError as error:
        yield Finding("Hub", _reached(constants.ENDPOINT), str(error), CONNECT)
        return
    role = user.get("auth", {}).get("accessToken", {}).get("role", "")
    yield Finding("Hub", True, constants.ENDPOINT)
    found = f"{plain(user.get('name', ''))}, with a token of role {plain(role) or 'unknown'}"
    yield Finding("login", role != "read", found, "hf auth login, with a token that may write")


def _reached(address: str) -> bool:
    import httpx2
    from huggingface_hub import get_session

    try:
        get_session().get(f"{address}/api/whoami-v2", timeout=5)  # any answer will do
    except (OSError, httpx2.HTTPError, httpx2.InvalidURL):
        return False
    return True


def disks() -> Iterator[Finding]:
    """Free space where data and caches lie."""
    from huggingface_hub import constants

    from distractor_data.dataset import cache

    places = {
        "this folder": Path.cwd(),
        "decoded frames": cache.folder(None),
        "the Hub's cache": Path(constants.HF_HUB_CACHE),
    }
    seen: dict[int, list[str]] = {}
    for name, place in places.items():
        while not place.exists():
            place = place.parent
        seen.setdefault(place.stat().st_dev, []).append(f"{name} ({place})")
        places[name] = place
    for names in seen.values():
        place = next(place for name, place in places.items() if names[0].startswith(name))
        free, writable = shutil.disk_usage(place).free, os.access(place, os.W_OK)
        found = f"{free / GIGABYTE:,.1f} GB free for {', '.join(names)}" + (
            "" if writable else ", which is read-only"
        )
        yield Finding(
            "disk", writable and free > GIGABYTE, found, "make room, or give another --out, DMASK_CACHE or HF_HOME"
        )


def memory(worker: int) -> Finding:
    """Free memory against what all workers would take, `worker` bytes each."""
    from distractor_data.engines import cores

    free = available()
    fitting = free // worker if worker else 0
    found = f"{free / GIGABYTE:.1f} GB free"
    found += f"; {cores()} workers of `dmask generate` take {cores() * worker / GIGABYTE:.1f}" if worker else ""
    return Finding("memory", not worker or fitting >= cores(), found, f"dmask generate --workers {max(1, fitting)}")


def available() -> int:
    """Bytes of memory that this process could still get, of the machine's and of its control group's."""
    if not Path("/proc/meminfo").exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # no other system says more without a package
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = [int(told["MemAvailable"].split()[0]) * 1024]
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free.append(int(text) - int(used.read_text()))
    return max(0, min(free))
