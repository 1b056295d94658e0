import pytest
import torch

from masklam import objectives
from masklam.consistency import Consistency, consistency_loss
from masklam.models import Model
from masklam.objectives import Batch, Weighting, pixel_weights
from masklam.reconstruction import Reconstruction

NORMALISE = pytest.mark.parametrize("normalise", ["none", "image", "batch"])


def gradients(masked: bool, batch: Batch, background: float = 0.0, normalise: str = "none") -> list[torch.Tensor]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model("masklam" if masked else "lapo", action_dim=2, latent_dim=8, image_size=32, res_blocks=0)
    Reconstruction(model.lam, Weighting(masked, background, normalise=normalise))(batch).backward()
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


@NORMALISE
def test_background_of_the_target_has_no_influence_on_any_gradient_of_masklam(batch, normalise):
    before, after = (gradients(True, b, normalise=normalise) for b in (batch, with_other_background(batch)))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(g.abs().sum() > 0 for g in before)


def test_background_of_the_target_changes_gradients_of_lapo(batch):
    before, after = gradients(False, batch), gradients(False, with_other_background(batch))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@NORMALISE
def test_masklam_with_background_weight_one_is_lapo_to_the_bit(batch, normalise):
    ours, lapo = (gradients(masked, batch, background=1.0, normalise=normalise) for masked in (True, False))
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
        Consistency(lam, Weighting(masked))(batch).backward()
        found.append(lam.encoder[0].weight.grad)
    assert not torch.equal(*found)


def test_blur_keeps_the_masks_area_and_softens_its_edge(batch):
    weight = pixel_weights(batch.mask, batch.target, blur=1.5)
    assert torch.allclose(weight.sum(), batch.mask.sum(), rtol=1e-3)
    assert ((weight > 0.01) & (weight < 0.99)).any()


def halves(batch: Batch) -> list[Batch]:
    """Two parts of a batch; the agent is smaller in the second, so that it matters what is divided by what."""
    batch.mask[2:] = 0
    batch.mask[2:, :, 3:6, 3:6] = 1
    names = ("now", "later", "target", "mask")
    return [Batch(*(getattr(batch, name)[part] for name in names)) for part in (slice(0, 2), slice(2, 4))]


@pytest.mark.parametrize("normalise", ["none", "image"])
def test_a_batchs_gradient_is_the_mean_of_its_halves(batch, normalise):
    """What sharing a batch out to processes needs, however large the agent is in each half."""
    each = [gradients(True, half, normalise=normalise) for half in halves(batch)]
    for whole, first, second in zip(gradients(True, batch, normalise=normalise), *each, strict=True):
        assert torch.allclose(whole, (first + second) / 2, rtol=1e-4, atol=1e-7)


def test_so_it_is_by_the_batchs_area_where_processes_share_that(batch, monkeypatch):
    parts = halves(batch)
    area = torch.stack([3 * part.mask.sum() for part in parts]).mean()
    monkeypatch.setattr(objectives, "over_processes", lambda value: area)
    each = [gradients(True, part, normalise="batch") for part in parts]
    monkeypatch.undo()
    for whole, first, second in zip(gradients(True, batch, normalise="batch"), *each, strict=True):
        assert torch.allclose(whole, (first + second) / 2, rtol=1e-4, atol=1e-7)


def test_the_papers_masked_loss_is_the_mean_squared_error_with_masked_errors(batch):
    prediction = torch.rand(batch.target.shape, generator=torch.Generator().manual_seed(5))
    masked = ((batch.mask * (batch.target - prediction)) ** 2).sum() / batch.target.numel()
    error = objectives.weighted_error(prediction, batch.target, batch.mask)
    assert torch.allclose(error, masked)
    ones = torch.ones_like(batch.mask)
    plain = torch.nn.functional.mse_loss(prediction, batch.target)
    for normalise in ("none", "image", "batch"):
        assert torch.allclose(objectives.weighted_error(prediction, batch.target, ones, normalise), plain)


def test_each_frame_of_a_stack_is_weighted_by_its_own_mask(batch):
    stacked = torch.cat([batch.target, batch.later], dim=1)
    masks = torch.cat([batch.mask, 1 - batch.mask], dim=1)
    prediction = torch.zeros_like(stacked)
    error = objectives.weighted_error(prediction, stacked, masks)
    each = [objectives.weighted_error(prediction[:, :3], x, m) for x, m in
            ((batch.target, batch.mask), (batch.later, 1 - batch.mask))]  # fmt: skip
    assert torch.allclose(error, sum(each) / 2)


def test_labels_teach_the_encoder_in_proportion_to_their_weight(batch):
    draw = torch.Generator().manual_seed(6)
    seen = Batch(batch.now, batch.later, batch.later, action=torch.randn(4, 2, generator=draw))
    torch.manual_seed(0)
    lam = Model("laom-labels", action_dim=2, latent_dim=8, image_size=32, res_blocks=0, heads=16).lam
    plain, *weighted = [
        Consistency(lam, Weighting(), label_weight=w)(objectives.replace(batch, labelled=seen))
        for w in (0.0, 0.1, 0.2)
    ]
    assert torch.allclose(weighted[1] - plain, 2 * (weighted[0] - plain), rtol=1e-3)
    assert weighted[0] > plain
