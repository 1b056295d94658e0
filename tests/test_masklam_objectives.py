import pytest
import torch

from masklam.models import Model
from masklam.objectives import Batch, Reconstruction, method


def gradients(masked: bool, batch: Batch, background_weight: float = 0.0) -> list[torch.Tensor]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model("masklam" if masked else "lapo", action_dim=2, latent_dim=8, image_size=32, res_blocks=0)
    Reconstruction(model.lam, masked, background_weight)(batch).backward()
    return [p.grad for p in model.lam.parameters()]


@pytest.fixture
def batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    images = [torch.rand(4, 3, 32, 32, generator=draw) * 2 - 1 for _ in range(3)]
    mask = torch.zeros(4, 1, 32, 32)
    mask[:, :, 8:20, 10:24] = 1
    return Batch(*images, mask)


def with_other_background(batch: Batch) -> Batch:
    noise = torch.rand(batch.target.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    target = torch.where(batch.mask > 0, batch.target, noise)
    return Batch(batch.now, batch.later, target, batch.mask)


def test_background_of_the_target_has_no_influence_on_any_gradient_of_masklam(batch):
    before, after = gradients(True, batch), gradients(True, with_other_background(batch))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(g.abs().sum() > 0 for g in before)


def test_background_of_the_target_changes_gradients_of_lapo(batch):
    before, after = gradients(False, batch), gradients(False, with_other_background(batch))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_masklam_with_background_weight_one_is_lapo_to_the_bit(batch):
    ours, lapo = gradients(True, batch, background_weight=1.0), gradients(False, batch)
    assert all(torch.equal(a, b) for a, b in zip(ours, lapo, strict=True))


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(Exception, match="did you mean 'masklam'"):
        method("maskalm")
