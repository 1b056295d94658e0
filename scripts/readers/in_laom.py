"""Run where LAOM's requirements are: its authors' own code on what `dmask export --format laom` wrote.

cd LAOM && PYTHONPATH=LAOM python in_laom.py FILE NPZ
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from torchvision_names import declare

os.environ["WANDB_MODE"] = "disabled"
KEPT = declare()


def main(file: str, npz: Path) -> None:
    import train_laom
    import wandb
    from src.utils import DCSInMemoryDataset, DCSLAOMInMemoryDataset, DCSLAOMTrueActionsDataset

    ours = [np.load(path) for path in sorted(npz.glob("*.npz"))]
    steps = len(ours[0]["action"])
    plain = DCSInMemoryDataset(file, frame_stack=3)
    assert len(plain) == len(ours) * (steps - 1)
    for index in (0, 7, steps - 1, len(plain) - 1):
        episode, t = divmod(index, steps - 1)
        now, after, action = plain[index]
        for seen, at in ((now, t), (after, t + 1)):
            stack = [ours[episode]["image"][max(at - back, 0)] for back in (2, 1, 0)]
            np.testing.assert_array_equal(seen.numpy(), np.concatenate(stack, axis=-1))
        np.testing.assert_array_equal(action.numpy(), ours[episode]["action"][t])
    for kind in (DCSLAOMInMemoryDataset, DCSLAOMTrueActionsDataset):
        made = kind(file, frame_stack=3, max_offset=10)
        assert made.state_dim == ours[0]["state"].shape[1]
        assert len(next(iter(made))) == 6
    wandb.init(mode="disabled")
    small = {"latent_action_dim": 8, "act_head_dim": 32, "obs_head_dim": 32, "encoder_deep": False}
    train_laom.train_laom(
        train_laom.LAOMConfig(num_epochs=1, batch_size=256, warmup_epochs=0, frame_stack=1, data_path=file, **small)
    )
    print(f"three dataset classes, {len(plain)} transitions: arrays equal; train_laom, one epoch")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
