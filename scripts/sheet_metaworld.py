"""One picture of each task of a group of Meta-World: frame, mask and overlay, some steps into an expert's episode.

python -m scripts.sheet_metaworld metaworld/mt10 --out mt10.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from distractor_data import envs, media, policies
from distractor_data.spec import SYNTHETIC, Spec


def main() -> None:
    """Draw the sheet, five tasks a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="?", default="metaworld/mt10")
    parser.add_argument("--step", type=int, default=45)
    parser.add_argument("--size", type=int, default=128, help="edge of a frame in pixels")
    parser.add_argument("--backgrounds", default=SYNTHETIC)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images, masks = [], []
    for episode, task in enumerate(envs.expand([options.group])):
        env = envs.make(Spec(env=task, image_size=options.size, backgrounds=options.backgrounds), episode)
        seen, rng = env.reset(), np.random.default_rng(0)
        policy = policies.load("expert", task, len(seen.state), env.action_size)
        for _ in range(options.step):
            seen, _, _ = env.step(policy.act(seen.state, rng))
        env.close()
        images.append(seen.image)
        masks.append(seen.mask)
        print(f"{task}: {env.background}, {seen.mask.mean():.1%} masked", flush=True)
    media.contact_sheet(np.stack(images), np.stack(masks), options.out, columns=5)


if __name__ == "__main__":
    main()
