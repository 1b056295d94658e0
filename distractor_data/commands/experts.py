"""The policies that act in the datasets: `dmask expert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distractor_data.options import Json, Quiet

app = typer.Typer()
expert = typer.Typer(no_args_is_help=True, help="Train and measure the policies that act in the datasets.")
app.add_typer(expert, name="expert")


@expert.command("train", epilog="Example: dmask expert train --env walker --out walker.safetensors")
def expert_train(
    env: Annotated[str, typer.Option(help="walker, cheetah, hopper, humanoid, or any task of the suite.")],
    out: Annotated[Path, typer.Option(help="The policy's .safetensors file; its medium level is written beside it.")],
    steps: Annotated[int, typer.Option(help="Control steps of the environment.")] = 3_000_000,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    start: Annotated[
        str, typer.Option("--from", help="Begin with the actor of a policy: a .safetensors file, or expert.")
    ] = "",
    algorithm: Annotated[str, typer.Option(help="sac, tqc (Truncated Quantile Critics), or ppo.")] = "sac",
    curriculum: Annotated[
        bool, typer.Option("--curriculum", help="Help in getting up: humanoid, hopper, walker.")
    ] = False,
    target_entropy: Annotated[
        float, typer.Option(help="Nats a dimension of the action: how much noise the training keeps.")
    ] = -0.5,
    action_repeat: Annotated[int, typer.Option(help="Control steps for which training holds an action.")] = 2,
    batch_size: Annotated[int, typer.Option(help="Transitions of a gradient step.")] = 128,
    n_steps: Annotated[int, typer.Option(help="Rewards of a return before the critics' estimate, in actions.")] = 3,
    discount: Annotated[float, typer.Option(help="Of the reward of the next action.")] = 0.99,
    episode_steps: Annotated[
        int, typer.Option(help="Control steps of a training's episode: fewer for more beginnings.")
    ] = 1000,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training that was interrupted.")] = False,
    eval_every: Annotated[int, typer.Option(help="Control steps between two evaluations.")] = 50_000,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the training state; by default beneath runs/.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train an expert on the task's states, by default with Soft Actor-Critic, and keep the best actor in OUT.

    Killed at any moment, the same command with --resume goes on from the last training state.
    """
    from distractor_data import terminal
    from distractor_data.policies.training import checkpoint, train
    from distractor_data.policies.training.settings import Settings

    settings = Settings(
        env=env,
        steps=steps,
        seed=seed,
        start=start,
        algorithm=algorithm,
        curriculum=curriculum,
        target_entropy=target_entropy,
        action_repeat=action_repeat,
        batch_size=batch_size,
        n_steps=n_steps,
        discount=discount,
        episode_steps=episode_steps,
        eval_every=eval_every,
    )
    with terminal.step_progress(settings.env, steps) as (report, progress):
        train.train(settings, out, state or checkpoint.default_state(settings), resume, report, progress)


@expert.command("eval", epilog="Example: dmask expert eval walker --episodes 20")
def expert_eval(
    policy: Annotated[str, typer.Argument(help="A policy's .safetensors file, or an environment.")],
    episodes: Annotated[int, typer.Option(help="Number of episodes.")] = 20,
    level: Annotated[str, typer.Option(help="Of an environment's policies: expert, medium or random.")] = "expert",
    env: Annotated[str | None, typer.Option(help="The environment a file must be for; its own by default.")] = None,
    json: Json = False,
) -> None:
    """Print the return of a policy at action repeat 1: mean ± standard deviation over unseen episodes."""
    from distractor_data import terminal
    from distractor_data.policies import evaluate

    terminal.print_outcomes(*evaluate.evaluate_argument(policy, level, env, episodes), json)


@expert.command("list", epilog="Example: dmask expert list")
def expert_list(json: Json = False) -> None:
    """Print the policies that come with the package and what they reach, as a Markdown table."""
    from distractor_data import terminal
    from distractor_data.policies import evaluate

    if json:
        terminal.print_json(evaluate.shipped())
    else:
        terminal.print_text(evaluate.table())
