"""Frames per second and peak memory of mask tracking: SAM 2's own video predictor against `MaskTracker`.

    python scripts/bench_sam2.py                                       # what fits the machine
    python scripts/bench_sam2.py --sizes 256 512 1024 --batches 1 8 32 128 --frames 100
    python scripts/bench_sam2.py --growth 100 1000                     # peak memory by length of the video

Each measurement has a process of its own, is preceded by a warm-up and takes in the resizing of frames and the
copying of masks to the host. Rounds alternate between the contestants; the best of each is printed. Weights are
seeded random ones (speed doesn't depend on them) unless `--model` names a checkpoint. The official predictor
gets its videos one after the other, as it works. Both run in each precision: bfloat16 autocast on CUDA, float32 on
processors, and both on those with matrix units for bfloat16 (AMX).
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BACKGROUNDS = ROOT / ".." / "shared" / "backgrounds" / "train"
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
BOX = (16.0, 12.0, 47.0, 51.0)  # of 64×64 pixels
COMPARED = 2  # videos whose logits are compared


def write_video(folder: Path, index: int, frames: int) -> list[np.ndarray]:
    """A video of 64×64 pixels as the JPEGs that the official predictor reads; returns them read back."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    videos = sorted(BACKGROUNDS.iterdir()) if BACKGROUNDS.is_dir() else []
    noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    images = []
    for t in range(frames):
        if videos:
            files = sorted(videos[index % len(videos)].glob("*.jpg"))
            picture: Image.Image = Image.open(files[(t + index // len(videos)) % len(files)])
        else:
            picture = Image.fromarray(np.roll(noise, t, 1))
        picture.resize((64, 64)).save(folder / f"{t:05d}.jpg", quality=95)
        images.append(np.asarray(Image.open(folder / f"{t:05d}.jpg").convert("RGB")))
    return images


def save_random_weights(path: Path) -> None:
    """Seeded weights in the official checkpoint format."""
    import torch
    from sam2.build_sam import build_sam2_video_predictor

    torch.manual_seed(0)
    torch.save({"model": build_sam2_video_predictor(CONFIG, None, device="cpu").state_dict()}, path)


class Official:
    """The package's own predictor, one video after the other."""

    def __init__(self, job: dict[str, Any]) -> None:
        from sam2.build_sam import build_sam2_video_predictor

        from distractor_data.masks.model import resolve, rotary_overrides

        config, path = resolve(job["model"])
        self.device, self.bf16 = job["device"], job["bf16"]
        overrides = [f"++model.image_size={job['size']}", *rotary_overrides(job["size"])]
        self.model = build_sam2_video_predictor(
            config, str(path), self.device, hydra_overrides_extra=overrides, vos_optimized=job["compiled"]
        )

    def run(self, folders: list[Path], videos: list[list[np.ndarray]], logits: bool) -> list[np.ndarray]:
        import torch

        kept = []
        for folder in folders:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
                state = self.model.init_state(str(folder))
                self.model.add_new_points_or_box(state, 0, 0, box=BOX)
                out = [x[0, 0] if logits else x[0, 0] > 0 for _, _, x in self.model.propagate_in_video(state)]
            kept.append(torch.stack(out).cpu().numpy())
        return kept


class Ours:
    """`MaskTracker`, `batch` videos at once."""

    def __init__(self, job: dict[str, Any]) -> None:
        from distractor_data.masks.model import build
        from distractor_data.masks.tracker import MaskTracker

        predictor = build(job["model"], job["size"], job["device"], job["compiled"])
        self.tracker = MaskTracker(predictor, job["batch"], job["bf16"], job["compiled"])

    def run(self, folders: list[Path], videos: list[list[np.ndarray]], logits: bool) -> list[np.ndarray]:
        from distractor_data.masks.prompts import Prompt
        from distractor_data.masks.schedule import Video

        clips = (Video(index, frames, Prompt(box=BOX)) for index, frames in enumerate(videos))
        done = {track.key: track for track in self.tracker.track(clips, keep_logits=logits)}
        return [track.logits if track.logits is not None else track.masks for _, track in sorted(done.items())]


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    import torch

    count = job["batch"] if job["name"] == "dmask" else COMPARED if job["logits"] else 1
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / str(index) for index in range(count)]
        videos = [write_video(folder, index, job["frames"]) for index, folder in enumerate(folders)]
        warm = Path(scratch) / "warm"
        short = [write_video(warm, 0, min(20, job["frames"]))]
        contestant = (Ours if job["name"] == "dmask" else Official)(job)
        contestant.run([warm], short * (count if job["compiled"] else 1), False)
        cuda = job["device"] == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        started, cpu_started = time.perf_counter(), time.process_time()
        contestant.run(folders, videos, False)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        peak = (
            torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        )
        if job["logits"]:
            kept = contestant.run(folders[:COMPARED], videos[:COMPARED], True)
            np.save(job["logits"], np.stack(kept)[:COMPARED])
    frames = count * job["frames"]
    return {"fps": frames / seconds, "cpu": cpu_seconds / frames, "peak": peak}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """`work` in a process; where it fails, the reason."""
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it was killed"])[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def difference(first: Path, second: Path) -> str:
    """Largest difference of two files of logits, as far as both go."""
    if not (first.exists() and second.exists()):
        return "–"
    one, other = np.load(first), np.load(second)
    videos = min(len(one), len(other))
    return f"{np.abs(one[:videos] - other[:videos]).max():.1e}"


def better(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The best of two measurements in each quantity; an error only where both failed."""
    if "error" in one or "error" in other:
        return other if "error" in one else one
    best = {"fps": max, "cpu": min, "peak": max}
    return {key: pick(one[key], other[key]) for key, pick in best.items()}


def compare(arguments: argparse.Namespace, model: str, scratch: Path) -> None:
    """The table of speeds."""
    cuda = arguments.device == "cuda"
    contestants: list[tuple[str, str, int, bool]] = [("official", "official", 1, False)]
    if cuda:
        contestants.append(("official, vos_optimized", "official", 1, True))
    contestants += [(f"dmask, batch {batch}", "dmask", batch, cuda) for batch in arguments.batches]
    columns = ("size", "precision", "tracker", "frames/s", "× official", "CPU s/frame", "× official", "peak memory")
    print("| " + " | ".join(columns) + " | logits differ by |\n" + "|---" * (len(columns) + 1) + "|", flush=True)
    for size, precision in itertools.product(arguments.sizes, arguments.precisions):
        best: dict[str, dict[str, Any]] = {}
        files = {label: scratch / f"{size}-{precision}-{i}.npy" for i, (label, *_) in enumerate(contestants)}
        for round_ in range(arguments.rounds):
            for label, name, batch, compile_ in contestants:
                result = measure(
                    {
                        "name": name,
                        "size": size,
                        "bf16": precision == "bf16",
                        "batch": batch,
                        "compiled": compile_,
                        "device": arguments.device,
                        "frames": arguments.frames,
                        "model": model,
                        "logits": str(files[label]) if round_ == 0 else "",
                    }
                )
                best[label] = better(best.get(label, result), result)
        for label, result in best.items():
            if "error" in result:
                print(f"| {size} | {precision} | {label} | failed: {result['error']} | | | | | |", flush=True)
                continue
            base = best["official"]
            cells = [size, precision, label]
            cells += [f"{result['fps']:.2f}", f"{result['fps'] / base.get('fps', np.nan):.2f}"]
            cells += [f"{result['cpu']:.3f}", f"{base.get('cpu', np.nan) / result['cpu']:.2f}"]
            cells += [f"{result['peak'] / 1e9:.2f} GB", difference(files["official"], files[label])]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def growth(arguments: argparse.Namespace, model: str) -> None:
    """The table of peak memory by length of the videos."""
    print("| image size | batch | " + " | ".join(f"{length} frames" for length in arguments.growth) + " | growth |")
    print("|---" * (len(arguments.growth) + 3) + "|", flush=True)
    for size in arguments.sizes:
        for batch in arguments.batches:
            job = {
                "name": "dmask",
                "size": size,
                "batch": batch,
                "bf16": arguments.precisions[-1] == "bf16",
                "compiled": arguments.device == "cuda",
                "logits": "",
            }
            job |= {"device": arguments.device, "model": model}
            peaks = [measure(job | {"frames": length}) for length in arguments.growth]
            if errors := [peak["error"] for peak in peaks if "error" in peak]:
                print(f"| {size} | {batch} | failed: {errors[0]} |")
                continue
            cells = " | ".join(f"{peak['peak'] / 1e9:.3f} GB" for peak in peaks)
            print(f"| {size} | {batch} | {cells} | {peaks[-1]['peak'] / peaks[0]['peak'] - 1:+.1%} |", flush=True)


def main() -> None:
    """Parse the arguments, say what runs where, print the table."""
    import torch

    from distractor_data.device import uses_bf16

    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024] if cuda else [256])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128] if cuda else [1, 8])
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bf16"), help="by default those that pay")
    parser.add_argument("--frames", type=int, default=100 if cuda else 24, help="frames a video has")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, nargs="+", help="lengths of videos whose peak memory to compare")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if cuda else "cpu")
    parser.add_argument("--model", help="a checkpoint; by default random weights")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        warnings.simplefilter("ignore")
        print(json.dumps(work(arguments.worker)))
        return
    if not arguments.precisions:
        exact = [] if arguments.device == "cuda" else ["float32"]
        arguments.precisions = exact + ["bf16"] * uses_bf16("auto", arguments.device)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{date.today()}, {device}, {platform.machine()}, torch {torch.__version__}, rounds: {arguments.rounds}\n")
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.model or str(Path(scratch) / "sam2.1_hiera_tiny.pt")
        if not arguments.model:
            save_random_weights(Path(model))
        if arguments.growth:
            growth(arguments, model)
        else:
            compare(arguments, model, Path(scratch))


if __name__ == "__main__":
    main()
