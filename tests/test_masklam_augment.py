import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from masklam import augment
from masklam.augment import KINDS, Draw

CALLS, BATCH, SIZE = 400, 64, 64


@pytest.fixture(scope="module")
def draws() -> list[Draw]:
    return [augment.draw(BATCH, SIZE, torch.Generator().manual_seed(seed)) for seed in range(CALLS)]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def only(kind: str, draw: Draw) -> Draw:
    return replace(draw, kind=torch.full_like(draw.kind, KINDS.index(kind)))


@pytest.mark.parametrize(("warp", "share"), [("S", 3 / 8), ("R", 5 / 8), ("P", 3 / 8)])
def test_how_often_an_image_is_shifted_turned_or_in_perspective_is_as_in_laom(draws, warp, share):
    has = torch.tensor([warp in kind for kind in KINDS])
    found = torch.cat([has[draw.kind] for draw in draws]).float().mean()
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / (CALLS * BATCH))  # four standard errors


def test_every_kind_is_as_likely_as_another_and_drawn_image_by_image(draws):
    counts = torch.bincount(torch.cat([draw.kind for draw in draws]), minlength=8)
    expected = CALLS * BATCH / 8
    assert ((counts - expected) ** 2 / expected).sum() < 26  # chi-squared of 7 degrees of freedom, p = 0.0005
    assert all(len(draw.kind.unique()) > 4 for draw in draws)


def test_shifts_angles_and_corners_are_uniform_over_laoms_ranges(draws):
    shift = torch.cat([draw.shift for draw in draws]).flatten()
    assert (shift.min(), shift.max()) == (-14, 14)
    expected = shift.numel() / 29
    assert ((torch.bincount(shift + 14) - expected) ** 2 / expected).sum() < 60  # 28 degrees, p = 0.0004
    degrees = torch.cat([draw.angle for draw in draws]).rad2deg()
    assert degrees.abs().max() <= 90
    assert torch.allclose(degrees.sort().values, torch.linspace(-90, 90, len(degrees)).double(), atol=5)
    corners = torch.cat([draw.corners for draw in draws]).flatten()
    assert (corners.min(), corners.max()) == (0, 31)
    expected = corners.numel() / 32
    assert ((torch.bincount(corners) - expected) ** 2 / expected).sum() < 66  # 31 degrees, p = 0.0003


def test_perspective_sees_more_than_the_picture_as_in_laom(draws):
    """Corners move inwards: the padded picture's 124² pixels fall on a smaller quadrilateral."""
    inner = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * torch.stack([d.corners[3] for d in draws])
    x, y = (torch.tensor([[0, 0], [123, 0], [123, 123], [0, 123]]) + inner).double().unbind(-1)
    area = 0.5 * (x * y.roll(-1, 1) - y * x.roll(-1, 1)).sum(1)  # the shoelace formula
    share = 123**2 / area
    low, high = torch.quantile(share, torch.tensor([0.05, 0.95]).double())
    assert 1.4 < low < high < 2.4


def test_shifts_are_exact_copies_of_pixels(images, draws):
    drawn = only("S", draws[0])
    found = augment.augment(images, drawn)
    padded = F.pad(images, [14] * 4, mode="replicate")
    for image, source, (x, y) in zip(found, padded, (drawn.shift + 14).tolist(), strict=True):
        assert torch.equal(image, source[:, y : y + SIZE, x : x + SIZE])


def test_a_quarter_turn_is_counter_clockwise_and_exact(images):
    found = augment.rotated(images, torch.tensor(math.pi / 2, dtype=torch.float64))
    assert torch.allclose(found, torch.rot90(images, 1, (2, 3)), atol=1e-4)


def test_corners_that_stay_leave_the_picture_and_all_others_move_where_they_should(images):
    assert torch.allclose(augment.in_perspective(images, torch.zeros(4, 2)), images, atol=1e-4)
    corners = torch.tensor([[31, 4], [7, 20], [0, 31], [12, 9]])
    outer = torch.tensor([[0, 0], [123, 0], [123, 123], [0, 123]], dtype=torch.float64)
    inner = outer + corners * torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    matrix = augment.homography(inner, outer)
    for start, end in zip(inner, outer, strict=True):
        mapped = matrix @ torch.tensor([*start, 1.0], dtype=torch.float64)
        assert torch.allclose(mapped[:2] / mapped[2], end, atol=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if len(kind) == 2])
def test_a_pair_is_its_first_warp_and_then_its_second(images, draws, kind):
    drawn = draws[1]
    number = KINDS.index(kind)
    steps = {
        "S": lambda x: augment.shifted(x, drawn.shift),
        "R": lambda x: augment.rotated(x, drawn.angle[number]),
        "P": lambda x: augment.in_perspective(x, drawn.corners[number]),
    }
    expected = steps[kind[1]](steps[kind[0]](images))
    assert torch.equal(augment.augment(images, only(kind, drawn)), expected)


def test_what_lies_beyond_the_padded_picture_is_grey():
    """The farthest corners leave a margin of one pixel of it, as torchvision's fill does."""
    found = augment.in_perspective(torch.ones(1, 3, SIZE, SIZE), torch.full((4, 2), 31))
    assert (found[..., 0, :] < 0.3).all()
    assert torch.allclose(found[..., 2:-2, 2:-2], torch.tensor(1.0))


def test_image_and_mask_move_alike(images, draws):
    mask = torch.zeros(BATCH, 1, SIZE, SIZE)
    mask[:, :, 16:40, 20:48] = 1
    for drawn in draws[:4]:
        moved = augment.augment(mask, drawn)
        assert torch.equal(augment.augment(mask.expand(-1, 3, -1, -1), drawn), moved.expand(-1, 3, -1, -1))
        untouched = drawn.kind == 0
        assert torch.equal(moved[untouched], mask[untouched])
        assert not torch.equal(moved[~untouched], mask[~untouched])


def test_processes_augment_their_part_as_one_would_the_whole(images, draws):
    whole = augment.augment(images, draws[2])
    for rank in range(2):
        assert torch.equal(augment.augment(images[rank::2], draws[2].share(rank, 2)), whole[rank::2])
