"""Speed of the trainer beside `datasets` + `DataLoader` on the same Parquet, in one run; prints one table.

    python scripts/bench_train.py --dataset data/distracting-dcs-masked --env walker-run
    python scripts/bench_train.py … --laom DIR --frame-stack 3    # and beside the loop of LAOM's authors

DIR is a checkout of dunnolab/laom, from which their dataset, model and normalisation are imported: LAPO as their
train_lapo.py trains it, without what it logs, in the precision that ours has.

Every row is the best of several rounds, so that other work on the machine counts as little as possible.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from distractor_data import schema, sources
from distractor_data.dataset import storage
from distractor_data.device import uses_bf16
from distractor_data.spec import DEFAULT_DIR
from masklam import data
from masklam import job as jobs
from masklam.objectives import Batch, Weighting
from masklam.reconstruction import Lapo, Reconstruction
from masklam.run import Run
from masklam.settings import Settings


def best(work: Callable[[], Any], seconds: float, device: torch.device) -> float:
    """Shortest time of one call, after one to warm up."""
    work()
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or shortest == float("inf"):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest


def peer(source: str, env: str, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    """The same Parquet, read by `datasets` in torch format, shuffled, through a DataLoader of 2 workers."""
    import datasets

    root = sources.locate(source, env, "train")
    files = [str(root / schema.data_file(shard)) for shard in storage.shards(root)]
    columns = [schema.IMAGE, schema.MASK, schema.ACTION]
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache, columns=columns)
        loader = DataLoader(rows.with_format("torch"), batch, shuffle=True, num_workers=2)
        while True:
            yield from loader


def their_loop(folder: str, frames: data.Frames, settings: Settings, bf16: bool) -> tuple[Callable, Callable]:
    """Their data path, and their step on a batch of it: the model of ours, from their modules."""
    laom = importlib.import_module("scripts.parity_laom" if __package__ else "parity_laom")
    utils, networks = laom.load(folder, "src.utils"), laom.load(folder, "src.nn")
    dataset_ = utils.DCSLAOMInMemoryDataset.__new__(utils.DCSLAOMInMemoryDataset)  # its constructor reads HDF5
    lengths = torch.bincount(frames.episode).tolist()
    dataset_.observations, dataset_.actions = frames.image.split(lengths), frames.action.split(lengths)
    dataset_.states, dataset_.traj_len = dataset_.actions, lengths[0]
    dataset_.frame_stack, dataset_.max_offset = settings.frame_stack, 1
    device = frames.image.device
    loader = DataLoader(dataset_, settings.batch, shuffle=True, drop_last=True)
    stream = iter(loader)
    model = networks.LAPO(
        (3 * settings.frame_stack, *frames.image.shape[1:3]),
        settings.latent_dim,
        settings.encoder_scale,
        (16, 32, 32),
        settings.res_blocks,
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def gather() -> list[torch.Tensor]:
        nonlocal stream
        try:
            return next(stream)
        except StopIteration:
            stream = iter(loader)
            return next(stream)

    def step(batch: list[torch.Tensor]) -> None:
        now, target, later = (utils.normalize_img(x.to(device).permute(0, 3, 1, 2)) for x in batch[:3])
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(model(now, later)[0], target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return gather, step


def beside(
    options: argparse.Namespace, job: jobs.Job, settings: Settings, bf16: bool, ours: float, both: float
) -> list[tuple[str, str]]:
    """Rows of their loop, and how much faster ours is; `ours` is our time for a batch, `both` with its step."""
    gather, step = their_loop(options.laom, job.frames, settings, bf16)
    size, device = settings.batch, job.frames.image.device
    path = best(gather, options.seconds, device)
    whole = best(lambda: step(gather()), options.seconds, device)
    return [
        ("LAOM's data path, three observations, action", f"{size / path:,.0f} samples/s; ours {path / ours:.1f} ×"),
        ("LAOM's data path and step, LAPO", f"{size / whole:,.0f} samples/s; ours {whole / both:.2f} ×"),
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default=DEFAULT_DIR)
    parser.add_argument("--env", default="walker-run")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--frame-stack", type=int, default=1)
    parser.add_argument("--laom", metavar="DIR", help="checkout of dunnolab/laom, as a peer")
    parser.add_argument("--seconds", type=float, default=10.0, help="spent on each row")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = uses_bf16("auto", device.type)
    cores, size = torch.get_num_threads(), options.batch
    settings = Settings(options.dataset, options.env, method="masklam", batch=size, frame_stack=options.frame_stack)
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as cache:
        frames = jobs.load(settings, "train", cache)

        def decode() -> None:
            with tempfile.TemporaryDirectory() as fresh:
                jobs.load(settings, "train", fresh)

        rate = len(frames.image) / best(decode, options.seconds, device) / (os.cpu_count() or 1)
        rows.append(("decoding once, image and mask", f"{rate:,.0f} frames/s a core"))
        job = jobs.prepare(settings, Run(cache), device, cache)
        sampler = data.Sampler(job.frames.transitions(job.training), size, seed=0)
        steps = iter(range(10**9))

        def gather() -> Batch:
            return jobs.gather(job, *sampler(next(steps)))

        lam = job.model.lam
        assert isinstance(lam, Lapo)
        objective = Reconstruction(lam, Weighting(masked=True))
        optimizer = torch.optim.Adam(objective.parameters(), 1e-4)

        def step(batch: Batch) -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = objective(batch.floats(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        fixed = gather()
        with FlopCounterMode(display=False) as counter:
            step(fixed)
        stream = peer(options.dataset, options.env, size)
        ours = best(gather, options.seconds, device)
        theirs = best(lambda: [next(stream) for _ in range(8)], options.seconds, device) / 8
        alone = best(lambda: step(fixed), options.seconds, device)
        both = best(lambda: step(gather()), options.seconds, device)
    if options.laom:
        rows += beside(options, job, settings, bf16, ours, both)
    kind = torch.bfloat16 if bf16 else torch.float32
    square = torch.randn(2048, 2048, device=device, dtype=kind)
    plain = 2 * 2048**3 / best(lambda: square @ square, options.seconds / 2, device)
    reached = counter.get_total_flops() / alone
    rows += [
        ("datasets + DataLoader (2 workers), frame, mask, action", f"{size / theirs:,.0f} samples/s"),
        ("our data path, two frames, target, mask", f"{size / ours:,.0f} samples/s, {theirs / ours:,.0f} ×"),
        ("step alone (scale 1, 2 residual blocks)", f"{size / alone:,.0f} samples/s"),
        ("data path and step", f"{size / both:,.0f} samples/s; data {ours / alone:.1%} of a step"),
        (f"matrix product, {str(kind).removeprefix('torch.')}", f"{plain / 1e9:,.0f} GFLOP/s"),
        ("step", f"{reached / 1e9:,.0f} GFLOP/s, {reached / plain:.0%} of the matrix product"),
    ]
    print(f"| {device.type}, {cores} threads, batch {size} | |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))


if __name__ == "__main__":
    main()
