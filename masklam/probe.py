"""How much of the true action is in a latent action: ridge, fitted and reported on different episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRENGTHS = tuple(10.0**power for power in range(-6, 2))
FOLDS = 5


@dataclass(frozen=True)
class Ridge:
    """An affine map on standardised inputs."""

    mean: Tensor  # (d,)
    scale: Tensor  # (d,)
    weight: Tensor  # (d, A)
    bias: Tensor  # (A,)
    strength: float  # relative to the number of samples

    def __call__(self, x: Tensor) -> Tensor:
        return ((x.double() - self.mean) / self.scale) @ self.weight + self.bias


def fit(x: Tensor, y: Tensor, episode: Tensor, strengths: tuple[float, ...] = STRENGTHS) -> Ridge:
    """Closed-form ridge of y (N, A) on x (N, d); its strength by cross-validation over whole episodes.

    Solves (XᵀX + λ n I) W = XᵀY on standardised x and centred y, in float64.
    """
    x, y = x.double(), y.double()
    mean, bias = x.mean(0), y.mean(0)
    scale = x.std(0, unbiased=False)
    scale = torch.where(scale > 1e-8 * (1 + mean.abs()), scale, torch.ones_like(scale))
    x, y = (x - mean) / scale, y - bias
    gram, moment = x.T @ x, x.T @ y
    strength = strengths[0]
    fold = torch.unique(episode, return_inverse=True)[1] % FOLDS
    folds = [fold == k for k in range(int(fold.max()) + 1)]
    if len(folds) > 1 and len(strengths) > 1:
        errors = torch.zeros(len(strengths))
        for held in folds:
            xh, yh = x[held], y[held]
            rest = (gram - xh.T @ xh, moment - xh.T @ yh, len(x) - len(xh))
            for k, candidate in enumerate(strengths):
                errors[k] += (xh @ _solve(*rest, candidate) - yh).square().sum()
        strength = strengths[int(errors.argmin())]
    return Ridge(mean, scale, _solve(gram, moment, len(x), strength), bias, strength)


def _solve(gram: Tensor, moment: Tensor, samples: int, strength: float) -> Tensor:
    regularised = gram + strength * samples * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.cholesky_solve(moment, torch.linalg.cholesky(regularised))


def nmse(prediction: Tensor, y: Tensor) -> dict[str, float | list[float]]:
    """Mean squared error over the variance of y: all dimensions together (`nmse`), and each on its own.

    0 is a perfect prediction, 1 is no better than the mean.
    """
    y = y.double()
    error = (prediction - y).square().mean(0)  # (A,)
    variance = y.var(0, unbiased=False)
    each = (error / variance.clamp(min=1e-12)).tolist()
    return {"nmse": float(error.sum() / variance.sum().clamp(min=1e-12)), "per_dimension": each}


def constant(z: Tensor) -> float:
    """Share of the dimensions of z (N, d) that vary by less than a ten-thousandth of z's root mean square."""
    spread = z.double().std(0, unbiased=False)
    return float((spread <= 1e-4 * z.double().square().mean().sqrt()).double().mean())


def usage(codes: Tensor, size: int) -> dict[str, Any]:
    """How a codebook of `size` codes is used by codes (N, places), the places of a latent action.

    `used` codes occur anywhere; `perplexity` is exp of the entropy of a place's codes, the mean over places, so that
    a place which always has the same code counts 1; `latents` is how many different latent actions there are. Below
    a tenth of the codes (or 1.1) in perplexity the codebook has `collapsed`.
    """
    counts = torch.stack([torch.bincount(place, minlength=size) for place in codes.T]).double()  # (places, size)
    perplexity = float(torch.special.entr(counts / len(codes)).sum(1).exp().mean())
    return {
        "codes": size,
        "used": int((counts.sum(0) > 0).sum()),
        "perplexity": perplexity,
        "latents": len(codes.unique(dim=0)),
        "collapsed": perplexity < max(0.1 * size, 1.1),
    }


def fit_mlp(x: Tensor, y: Tensor, seed: int, steps: int = 1000, batch: int = 512) -> Callable[[Tensor], Tensor]:
    """A nonlinear probe: two hidden layers of 256 on standardised x, Adam, mean squared error."""
    mean, scale = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
    offset, spread = y.mean(0), y.std(0, unbiased=False).clamp(min=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, y.shape[1])
        ).to(x.device)
        order = torch.randint(len(x), (steps, min(batch, len(x))))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    inputs, goal = (x - mean) / scale, (y - offset) / spread
    for index in order.to(x.device):
        loss = F.mse_loss(network(inputs[index]), goal[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def predict(z: Tensor) -> Tensor:
        return network((z - mean) / scale) * spread + offset

    return predict
