"""A grid of runs from a TOML file: the datasets they need, the runs, one table of all results, plots."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distractor_data.dataset import storage
from distractor_data.errors import DmaskError
from masklam import plots, results
from masklam.bar import bar
from masklam.plan import Planned, Study, read
from masklam.run import Run


def study(path: str | Path, jobs: int = 1, out: str | Path | None = None) -> str:
    """Make or find the datasets, train what isn't trained, and write results; the Markdown results.

    Results go to `results/` beside the study's file: Parquet, Markdown, plots. A run that fails doesn't stop the
    others; the first failure is raised at the end as a `DmaskError`.
    """
    if jobs < 1:
        raise DmaskError(f"--jobs is {jobs}; give a number of at least 1")
    plan = read(path)
    runs = plan.runs()
    make_datasets(plan)
    failures = train_all(runs, jobs)
    folder = Path(out or Path(path).parent / "results")
    rows = [row for run in runs for row in results.collect(plan.name, run)]
    if not rows:
        raise DmaskError(f"no run of {path} has finished: {failures[0]}")
    rows += results.over_cloning(rows)
    text = results.summary(rows)
    with storage.atomic_write(folder / f"{plan.name}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    with storage.atomic_write(folder / f"{plan.name}.md") as temporary:
        temporary.write_text(f"# {plan.name}\n\n{text}\n{results.NOTES}")
    plots.draw(rows, folder, plan.name)
    if failures:
        raise DmaskError(f"{len(failures)} of {len(runs)} runs failed; the first: {failures[0]}")
    return text


def make_datasets(plan: Study) -> None:
    """Generate what isn't there; a complete dataset is left as it is."""
    from distractor_data import terminal
    from distractor_data.pipeline import generate

    for folder, spec in plan.specs():
        name = f"{spec.env} {spec.difficulty} {spec.split}"
        with terminal.generation_progress(name, spec.episodes) as on_event:
            generate(spec, folder, on_event=on_event)


def train_all(runs: list[Planned], jobs: int) -> list[str]:
    """Train what isn't trained, `jobs` at a time, each in a process with its share of the cores; the failures."""
    missing = [run for run in runs if not Run(run.folder).done(run.settings)]
    if jobs == 1:
        return [failure for run in bar(missing, "runs", disable=not missing) if (failure := _train(run))]
    # Read by the processes when they import torch and tqdm.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // jobs, 1)))
    os.environ["TQDM_DISABLE"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        finished = (future.result() for future in as_completed(pool.submit(_train, run) for run in missing))
        try:
            return [failure for failure in finished if failure]
        except BrokenProcessPool as error:
            raise DmaskError(
                "a run's process was killed, perhaps for want of memory; start the study again to go on, with fewer "
                "--jobs"
            ) from error


def _train(run: Planned) -> str:
    """Train one run; what failed, or nothing."""
    from masklam.train import train

    try:
        train(run.settings, run.folder)
    except (DmaskError, RuntimeError, OSError) as error:  # out of memory is a RuntimeError, too
        return f"{run.folder}: {error}"
    print(f"done: {run.folder}", flush=True)
    return ""
