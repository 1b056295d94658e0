"""Masks by a model, and spoilt ones: `dmask mask` and `dmask corrupt-masks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.errors import DmaskError
from distractor_data.options import (
    Address,
    Directory,
    Engine,
    EngineName,
    EnvOption,
    Json,
    Quiet,
    SplitOption,
    part_of,
)
from distractor_data.spec import DEFAULT_DIR

app = typer.Typer()


@app.command(epilog="Example: dmask mask video.mp4 --prompt box=10,20,80,90 --prompt-frame 40 --out masks")
def mask(
    source: Annotated[Path, typer.Argument(help="A dataset, a folder of frames or a video.")] = Path(DEFAULT_DIR),
    env: EnvOption = None,
    split: SplitOption = None,
    model: Annotated[str, typer.Option(help="A SAM 2 model on the Hub, or its checkpoint file.")] = (
        "facebook/sam2.1-hiera-tiny"
    ),
    image_size: Annotated[int, typer.Option(help="The model's input; 512 or 256 for small frames.")] = 1024,
    batch: Annotated[int, typer.Option(help="Videos tracked at once; 0: 32 on a GPU, 8 without.")] = 0,
    prompt: Annotated[
        str, typer.Option(help="simulator, motion, box=x0,y0,x1,y1, point=x,y or mask=FILE.")
    ] = "simulator",
    prompt_frame: Annotated[int, typer.Option(help="The frame of a video that it shows; tracked both ways.")] = 0,
    reprompt: Annotated[int, typer.Option(help="Give the box again every so many frames; 0: never.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several: cuda:0,cuda:1.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="bf16, float32, or auto: bf16 where the device is made for it.")
    ] = "auto",
    image_column: Annotated[
        list[str] | None, typer.Option(help="Of anybody's dataset: a column of images or video; may come again.")
    ] = None,
    episode_column: Annotated[
        str | None, typer.Option(help="With --image-column: what tells episodes apart.", show_default="episode_index")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the masks of a video, or a copy with them, go.")] = None,
    engine: Engine = EngineName.local,
    address: Address = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Measure the masks that are there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another model's masks.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Masks by SAM 2 for a dataset (the simulator's are kept beside them), a copy of anybody's, or one video.

    Interrupted, the same command goes on where it stopped.
    """
    from distractor_data import engines, terminal
    from distractor_data.dataset import read
    from distractor_data.masks.annotate import Settings, mask_dataset
    from distractor_data.masks.annotate import report_only as measure_again

    part = part_of(split)
    if report_only:
        terminal.print_masks(measure_again(source, env, part), json)
        return
    settings = Settings(model, image_size, batch, prompt, reprompt, device, precision)
    dataset = bool(image_column or read.configs(source))
    if dataset and prompt_frame:
        raise DmaskError("--prompt-frame is for one video, and this is a dataset; leave it out")
    if engine == EngineName.ray and (image_column or not dataset):
        raise DmaskError("--engine ray is for a dataset of `dmask generate` or `dmask import`; leave it out")
    if image_column:
        from distractor_data.masks.columns import mask_columns

        with terminal.frame_progress("masks") as on_frames:
            reports = mask_columns(source, image_column, settings, out, episode_column, overwrite, on_frames)
        terminal.print_masks(reports, json)
    elif dataset:
        with terminal.frame_progress("masks") as on_frames:
            actors = engines.actors(engine.value, address)
            reports = mask_dataset(source, settings, env, part, overwrite, on_frames, actors)
        terminal.print_masks(reports, json)
    else:
        from distractor_data.masks.video import mask_video

        with terminal.frame_progress(source.name) as on_frames:
            result = mask_video(source, out, settings, overwrite, on_frames, prompt_frame)
        terminal.print_video_masks(result, out, json)


@app.command("corrupt-masks", epilog="Example: dmask corrupt-masks data --dilate 2 --out degraded")
def corrupt_masks(
    directory: Directory,
    out: Annotated[Path, typer.Option(help="Where the copy goes.")],
    env: EnvOption = None,
    split: SplitOption = None,
    dilate: Annotated[int, typer.Option(help="Grow by so many pixels.")] = 0,
    erode: Annotated[int, typer.Option(help="Shrink by so many pixels.")] = 0,
    shift: Annotated[int, typer.Option(help="Move by up to so many pixels, drawn for each frame.")] = 0,
    flip: Annotated[float, typer.Option(help="Probability of inverting a pixel.")] = 0.0,
    drop: Annotated[float, typer.Option(help="Probability of emptying a frame's mask.")] = 0.0,
    seed: Annotated[int, typer.Option(help="All randomness follows from it.")] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Copy a dataset with degraded masks, and measure them."""
    from distractor_data import terminal
    from distractor_data.masks.corrupt import Corruption, corrupt_dataset

    how = Corruption(dilate, erode, shift, flip, drop, seed)
    with terminal.frame_progress("masks") as on_frames:
        reports = corrupt_dataset(directory, out, how, env, part_of(split), on_frames)
    terminal.print_masks(reports, json)
