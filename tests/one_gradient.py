"""Train one step and save its gradients: `python one_gradient.py DATASET RUN METHOD`, or the same by torchrun."""

import os
import sys

import torch
from safetensors.torch import save_file

from masklam.settings import Settings
from masklam.train import train


def main(dataset: str, out: str, method: str) -> None:
    take_step = torch.optim.Adam.step

    def keep(self, *arguments, **options):
        if os.environ.get("RANK", "0") == "0":
            gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
            save_file({str(k): g.contiguous() for k, g in enumerate(gradients)}, f"{out}.safetensors")
        return take_step(self, *arguments, **options)

    torch.optim.Adam.step = keep
    small = {
        "precision": "float32",
        "latent_dim": 8,
        "res_blocks": 0,
        "policy_scale": 1,
        "labelled_trajectories": (1,),
        **({"heads": 16, "labelled_batch": 8} if method == "laom-labels" else {}),
    }
    train(Settings(dataset, method=method, steps=1, batch=16, stages=("lam",), **small), out, "cpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
