"""What a person sees while a command runs and after it: progress bars and tables."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from distractor_data import schema
from distractor_data.errors import DmaskError, plain
from distractor_data.events import Begun, Event, Made, Masked, OnEvent
from distractor_data.masks.flags import WORDS
from distractor_data.progress import Lines

if TYPE_CHECKING:
    import numpy as np

    from distractor_data.doctor import Finding
    from distractor_data.envs.survey import Skipped, Used
    from distractor_data.hub.repository import Push
    from distractor_data.info import Described, Listed
    from distractor_data.masks.annotate import Report
    from distractor_data.masks.video import VideoReport
    from distractor_data.pipeline import Summary
    from distractor_data.spec import Import, Spec


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Whether nothing but errors, and what was asked for as JSON, is printed from now on."""
    global _quiet
    _quiet = quiet
    logging.getLogger("distractor_data").setLevel(logging.ERROR if quiet else logging.NOTSET)


def _stdout(**options: Any) -> Console:
    return Console(soft_wrap=True, highlight=False, quiet=_quiet, **options)


def _say(*lines: str) -> None:
    """Lines on stdout as they are: values from data are no markup, and no terminal obeys them."""
    for line in lines:
        _stdout().print(Text("".join(letter for letter in line if letter.isprintable())))


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(plain(cell)) for cell in cells))


@contextmanager
def _shown(*columns: ProgressColumn) -> Iterator[Progress]:
    """Bars on stderr; an error that comes before anything was counted stands alone, without empty bars.

    Where stderr is no terminal they are lines, one every few seconds.
    """
    console = Console(stderr=True, quiet=_quiet)
    with Progress(*columns, console=console, disable=_quiet) if console.is_terminal else Lines(console) as progress:
        try:
            yield progress
        except (DmaskError, OSError):
            if not any(task.completed for task in progress.tasks):
                progress.live.transient = True
            raise


def _bars() -> AbstractContextManager[Progress]:
    """Bars that count in their tasks' field `unit`, with a rate (the field `rate`) and the time left."""
    return _shown(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )


@contextmanager
def generation_progress(name: str, episodes: int | None = None) -> Iterator[OnEvent]:
    """A bar over episodes and, where a model tracks masks, one over its frames; yields what to tell of events.

    Without the number of `episodes` an event tells it.
    """
    with _bars() as progress:
        task = progress.add_task(plain(name), total=episodes, rate="", unit="episodes")
        on_masked = _frame_bar(progress, "masks", visible=False)
        started, frames_made = time.perf_counter(), 0

        def on_event(event: Event) -> None:
            nonlocal frames_made
            if isinstance(event, Begun):
                progress.update(task, total=event.episodes)
            elif isinstance(event, Masked):
                on_masked(event.frames, event.total)
            elif isinstance(event, Made) and event.anew:
                frames_made += event.frames
                rate = frames_made / (time.perf_counter() - started)
                progress.update(task, advance=1, rate=f"{rate:.1f} frames/s")
            elif isinstance(event, Made):  # it was there already, and says nothing about the speed
                left = (progress.tasks[0].total or 0) - 1
                progress.update(task, total=left, description=plain(f"{name} (resumed)"))

        yield on_event


def print_summary(summary: Summary, spec: Spec | Import, out: str | Path) -> None:
    """The closing table of `dmask generate` or `dmask import` and the line that loads the result."""
    table = Table(show_header=False, box=None)
    coverage = summary.mask_coverage
    rate = f"{summary.made / summary.seconds:.1f} frames/s" if summary.made else "all were there already"
    for name, value in (
        ("episodes", f"{summary.episodes:,}"),
        ("frames", f"{summary.frames:,}"),
        ("mean return", f"{summary.mean_return:.1f}"),
        *([] if summary.success is None else [("success", f"{summary.success:.1%} of the episodes")]),
        ("mask coverage", "no masks yet" if coverage is None else f"{coverage:.2%} of the pixels"),
        ("size", f"{summary.bytes / 1e6:,.1f} MB"),
        ("made now", f"{summary.made:,} frames in {summary.seconds:.1f} s, {rate}"),
    ):
        _add_row(table, name, value)
    from distractor_data.hub.bucket import is_url

    url = is_url(str(out))
    _say(f"{spec.env} {spec.split} → {out if url else summary.root}")
    _stdout().print(table)
    _say(f"dmask pull {out} DIR" if url else f'load_dataset("{out}", "{spec.env}", split="{spec.split}")')


@contextmanager
def step_progress(name: str, steps: int) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """A bar over training steps; yields what prints a line above it and what sets the number of steps done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with _shown(*columns, TextColumn("left")) as progress:
        task = progress.add_task(plain(name), total=steps)
        yield (
            lambda line: progress.console.print(Text(plain(line)), soft_wrap=True),
            lambda done: progress.update(task, completed=done),
        )


def print_edited(roots: list[Path]) -> None:
    """One line for each config and split that was written."""
    from distractor_data.dataset import storage

    for root in roots:
        records = storage.read_episodes(root)
        _say(f"{root}: {len(records):,} episodes, {sum(records[schema.LENGTH].to_pylist()):,} frames")


def print_outcomes(env: str, policy: str, outcomes: np.ndarray, as_json: bool = False) -> None:
    """One line: mean ± standard deviation of the return over the episodes, and how many of them were solved."""
    (mean, solved), deviation = outcomes.mean(0), outcomes[:, 0].std()
    if as_json:
        told = {"env": env, "policy": policy, "episodes": len(outcomes), "return_mean": mean, "return_std": deviation}
        print_json({**told, "solved": None if math.isnan(solved) else solved, "returns": outcomes[:, 0].tolist()})
        return
    success = "" if math.isnan(solved) else f", {solved:.1%} solved"
    _say(f"{env} {policy}: return {mean:.2f} ± {deviation:.2f} over {len(outcomes)} episodes{success}")


def print_environments(families: list[dict[str, Any]], as_json: bool) -> None:
    """For each family a heading, and a line for each task: its name, the sizes of state and action, an expert."""
    if as_json:
        print_json(families)
        return
    for one in families:
        count, groups = len(one.get("tasks", [])), ", ".join(one.get("groups", []))
        _say(f"{one['family']}: {one.get('missing') or f'{count} tasks; groups {groups}'}")
        for task in one.get("tasks", []):
            line = f"  {task['env']:<40}{task['state']:>5} → {task['action']:<4}{'expert' if task['expert'] else ''}"
            _say(line.rstrip())


def print_verified(counts: dict[str, int], as_json: bool = False) -> None:
    """One line for each config and split whose checksums were compared."""
    if as_json:
        print_json({"verified": counts})
        return
    _say(*(f"{name}: {count} files as they were written" for name, count in counts.items()))


def print_repaired(restored: dict[str, list[str]]) -> None:
    """One line for each file that was restored."""
    console = _stdout()
    for name, files in restored.items():
        for file in files:
            console.print(f"{name}: {file} restored", markup=False)


@contextmanager
def transfer_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Lines over files on their way, in a log; on a terminal huggingface_hub has bars of its own, over bytes."""
    if sys.stderr.isatty():
        yield lambda files, total: None
    else:
        with frame_progress(name, "files") as on_files:
            yield on_files


def print_pushed(pushed: list[Push], dry_run: bool, line: str, as_json: bool = False) -> None:
    """What was sent, where it is and the `line` that loads it; of a dry run, the files and the card."""
    if as_json:
        print_json(pushed)
        return
    for one in pushed:
        total = f"{len(one.sent):,} files, {sum(one.sent.values()) / 1e6:,.1f} MB"
        if dry_run:
            _say(*(f"{size / 1e6:10.3f} MB  {path}" for path, size in one.sent.items()))
            _say(total, "", *one.card.split("\n"))
        else:
            _say(f"{total} sent" if one.sent else "nothing changed since the last push")
            _say(one.url, line.format(one.name))


@contextmanager
def frame_progress(name: str, unit: str = "frames") -> Iterator[Callable[[int, int], None]]:
    """A bar over frames with frames/s and the time left; yields what to call with (frames done now, of how many)."""
    with _bars() as progress:
        yield _frame_bar(progress, name, unit=unit)


def print_paths(paths: list[Path]) -> None:
    """One line for each file or folder that was written."""
    _say(*map(str, paths))


def print_serving(url: str) -> None:
    """Where a page is served, and how that ends."""
    _say(f"{url}  (Ctrl-C ends it)")


def _frame_bar(
    progress: Progress, name: str, visible: bool = True, unit: str = "frames"
) -> Callable[[int, int], None]:
    """Another bar of `progress`, seen from its first frame on where it isn't `visible` before."""
    task = progress.add_task(plain(name), total=None, rate="", unit=unit, visible=visible)
    started, done = 0.0, 0

    def on_frames(frames: int, total: int) -> None:
        nonlocal started, done
        started = started or time.perf_counter()
        done += frames
        rate = f"{done / (time.perf_counter() - started):.1f} {unit}/s" if done else ""
        progress.update(task, advance=frames, total=total, rate=rate, visible=True)

    return on_frames


def print_masks(reports: list[Report], as_json: bool = False) -> None:
    """The table of mask quality, one row for each config and split."""
    if as_json:
        print_json(reports)
        return
    table = Table()
    for column in ("", "masks by", "episodes", "frames", "J", "F", "J&F", "coverage", "lost frames", "worst episode"):
        table.add_column(column, justify="left" if column in ("", "masks by") else "right")
    for one in reports:
        scores = ["–" if score is None else f"{score:.3f}" for score in (one.iou, one.boundary_f, one.j_and_f)]
        lost = f"{one.lost_frames:,} in {one.lost_episodes:,} episodes" if one.lost_frames else "0"
        worst = "–" if one.worst is None else str(one.worst)
        counts = [f"{one.episodes:,}", f"{one.frames:,}"]
        _add_row(table, one.name, one.source, *counts, *scores, f"{one.coverage:.2%}", lost, worst)
    _stdout(width=max(130, Console().width)).print(table)


def print_video_masks(report: VideoReport, out: Path | None, as_json: bool = False) -> None:
    """One line on the masks of a video and one for each thing that looks wrong with them."""
    if as_json:
        print_json(report)
        return
    _say(
        f"{out}: masks/, overlay.mp4 and flags.json, {report.coverage:.2%} of the pixels in {report.frames:,} frames"
    )
    for flag, found in report.flags.items():
        if found:
            count = sum(last - first + 1 for first, last in found)
            where = ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in found[:5])
            _say(f"look at {count:,} frames ({where}{', …' if len(found) > 5 else ''}): {WORDS[flag]}")


def print_json(value: Any) -> None:
    """One JSON document on stdout. All but ASCII is escaped, so that no terminal obeys it."""
    print(json.dumps(value, indent=2, default=lambda one: str(one) if isinstance(one, Path) else asdict(one)))


def print_survey(used: list[Used], skipped: list[Skipped], as_json: bool) -> None:
    """A row for each background video, and a line for each thing that is none."""
    if as_json:
        print_json({"used": used, "skipped": skipped})
        return
    table = _table("split", "video", "frames", "size", "fps", "", right=("frames", "fps"))
    for one in used:
        says = one.error or "; ".join(one.notes)
        mark = "✗" if one.error else "✓"
        _add_row(table, one.split, one.name, f"{one.frames:,}", " ".join(one.sizes), f"{one.fps:g}", f"{mark} {says}")
    _show(table)
    _say(*(f"skipped {plain(one.name)}: {one.why}" for one in skipped))


def print_info(found: list[Described], as_json: bool) -> None:
    """A row for each config and split, their sum, and the commands that made them."""
    if as_json:
        print_json(found)
        return
    numbers = ("episodes", "frames", "MB", "return", "expert's", "coverage", "J", "J&F")
    table = _table("config", "split", *numbers[:2], "size", *numbers[2:5], "masks by", *numbers[5:], right=numbers)
    for one in found:
        sizes = f"{one.episodes:,}", f"{one.frames:,}", f"{one.width}×{one.height}", f"{one.bytes / 1e6:,.1f}"
        returns = _number(one.mean_return, ".1f"), _number(one.expert_return, ".1f")
        quality = _number(one.coverage, ".1%"), _number(one.iou, ".3f"), _number(one.j_and_f, ".3f")
        _add_row(table, one.config, one.split, *sizes, *returns, one.mask, *quality)
    _show(table)
    total = (
        sum(one.episodes for one in found),
        sum(one.frames for one in found),
        sum(one.bytes for one in found) / 1e6,
    )
    _say("{:,} episodes, {:,} frames, {:,.1f} MB, made by".format(*total))
    _say(*(f"  {command}" for one in found for command in one.commands))


def print_listing(found: list[Listed], as_json: bool) -> None:
    """A row for each dataset."""
    if as_json:
        print_json(found)
        return
    table = _table("dataset", "configs", "frames", "MB", "changed", "", right=("frames", "MB"))
    for one in found:
        size = None if one.bytes is None else one.bytes / 1e6
        numbers = _number(one.frames, ","), _number(size, ",.1f")
        _add_row(table, one.name, ", ".join(one.configs), *numbers, one.changed, "private" if one.private else "")
    if found:
        _show(table)
    else:
        _say("no datasets that dmask made")


def print_findings(findings: Iterable[Finding], as_json: bool) -> list[Finding]:
    """A line for each finding as it comes, ticked or crossed; returns them all."""
    found = []
    for one in findings:
        found.append(one)
        if not as_json:
            mark, style = ("✓", "green") if one.ok else ("✗", "red" if one.needed else "yellow")
            cure = f"; to mend it: {one.cure}" if one.cure and not one.ok else ""
            _stdout().print(Text(mark, style), Text(plain(f"{one.what}: {one.found}{cure}")))
    if as_json:
        print_json(found)
    return found


def print_text(text: str) -> None:
    """Lines as they are."""
    _say(*text.split("\n"))


def _number(value: float | None, form: str) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _show(table: Table) -> None:
    _stdout(width=None if sys.stdout.isatty() else 200).print(table)
