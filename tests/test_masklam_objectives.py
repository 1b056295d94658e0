import pytest
import torch

from masklam.augment import augment
from masklam.models import Model
from masklam.objectives import Batch, Consistency, Reconstruction, consistency_loss, pixel_weights


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


def test_cells_outside_the_mask_have_no_influence_on_masklaoms_loss(batch):
    draw = torch.Generator().manual_seed(3)
    prediction = torch.randn(4, 5, 8, 8, generator=draw, requires_grad=True)
    goal = torch.randn(4, 5, 8, 8, generator=draw)
    inside = torch.nn.functional.adaptive_avg_pool2d(batch.mask, 8) > 0
    other = torch.where(inside, goal, torch.randn(goal.shape, generator=draw))
    found = []
    for target in (goal, other):
        loss = consistency_loss(prediction, target, batch.mask)
        found.append((loss, *torch.autograd.grad(loss, prediction)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert not found[0][1][~inside.expand_as(goal)].any()
    assert not torch.equal(consistency_loss(prediction, goal, None), consistency_loss(prediction, other, None))


def test_the_mask_reaches_the_gradients_of_masklaom(batch):
    found = []
    for masked in (True, False):
        torch.manual_seed(0)
        lam = Model("masklaom", action_dim=2, latent_dim=8, image_size=32, res_blocks=0, heads=16).lam
        Consistency(lam, masked)(batch).backward()
        found.append(lam.encoder[0].weight.grad)
    assert not torch.equal(*found)


def test_augmentation_leaves_images_as_they_are_or_moves_image_and_mask_alike(batch):
    draw = torch.rand(4, 9, generator=torch.Generator().manual_seed(4))
    draw[0, 0] = 0.0  # the choice that changes nothing
    moved = augment(batch.mask, draw)
    assert torch.allclose(augment(batch.now, draw)[0], batch.now[0], atol=1e-5)
    assert torch.allclose(moved[0], batch.mask[0], atol=1e-5)
    agent = batch.mask.expand(-1, 3, -1, -1) * 2 - 1
    assert torch.allclose(augment(agent, draw), moved.expand(-1, 3, -1, -1) * 2 - 1, atol=1e-5)


def test_blur_keeps_the_masks_area_and_softens_its_edge(batch):
    weight = pixel_weights(batch.mask, batch.target, blur=1.5)
    assert torch.allclose(weight.sum(), batch.mask.sum(), rtol=1e-3)
    assert ((weight > 0.01) & (weight < 0.99)).any()


def test_a_batchs_gradient_is_the_mean_of_its_halves(batch):
    """What sharing a batch out to processes needs, however large the agent is in each half."""
    batch.mask[2:] = 0
    batch.mask[2:, :, 3:6, 3:6] = 1
    halves = [
        gradients(True, Batch(*(getattr(batch, name)[part] for name in ("now", "later", "target", "mask"))))
        for part in (slice(0, 2), slice(2, 4))
    ]
    for whole, first, second in zip(gradients(True, batch), *halves, strict=True):
        assert torch.allclose(whole, (first + second) / 2, rtol=1e-4, atol=1e-7)
