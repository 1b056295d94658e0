import torch

from masklam import probe


def planted(noise: float, samples: int = 400):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2 * samples, 12, generator=draw) * 3 + 1
    y = x @ torch.randn(12, 3, generator=draw) + 0.5 + noise * torch.randn(2 * samples, 3, generator=draw)
    episode = torch.arange(2 * samples) // 40
    return x[:samples], y[:samples], episode[:samples], x[samples:], y[samples:]


def test_recovers_a_planted_linear_map():
    x, y, episode, held_x, held_y = planted(noise=0.0)
    measures = probe.nmse(probe.fit(x, y, episode)(held_x), held_y)
    assert measures["nmse"] < 1e-6
    assert max(measures["per_dimension"]) < 1e-6


def test_reports_about_one_where_there_is_nothing_to_find():
    x, _, episode, held_x, held_y = planted(noise=0.0)
    y = torch.randn(len(x), 3, generator=torch.Generator().manual_seed(1))
    held_y = torch.randn(held_y.shape, generator=torch.Generator().manual_seed(2))
    assert 0.95 < probe.nmse(probe.fit(x, y, episode)(held_x), held_y)["nmse"] < 1.1


def test_cross_validation_takes_more_ridge_where_there_is_more_noise():
    little = probe.fit(*planted(noise=0.01)[:3])
    much = probe.fit(*planted(noise=60.0, samples=120)[:3])
    assert much.strength > little.strength


def test_the_mlp_probe_finds_what_a_linear_one_cannot():
    x, _, episode, held_x, _ = planted(noise=0.0, samples=1000)
    y, held_y = ((k - 1).square().mean(1, keepdim=True) for k in (x, held_x))
    linear = probe.nmse(probe.fit(x, y, episode)(held_x), held_y)["nmse"]
    assert probe.nmse(probe.fit_mlp(x, y, seed=0, steps=300)(held_x), held_y)["nmse"] < 0.5 * linear
