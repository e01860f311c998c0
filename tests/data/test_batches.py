import math

import numpy as np
import pytest
import torch

from hwtune.data.augment import Augmentation, augment
from hwtune.data.batches import Batches, to_floats, to_pixels
from hwtune.data.splits import Part


def part(count=10, side=8):
    images = np.zeros((count, side, side), np.uint8)
    images[:, 2:6, 3:5] = 200
    return Part(images, np.arange(count))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_an_epoch_of_training_shuffles_and_drops_the_rest():
    batches = Batches(part(), batch_size=4, generator=generator())
    first, second = ([b[1].tolist() for b in batches] for _ in range(2))
    assert len(first) == len(batches) == 2
    assert first != second
    assert len({label for batch in first for label in batch}) == 8


@pytest.mark.parametrize("side", [0, 4])
@pytest.mark.parametrize("train", [False, True])
def test_images_at_positions_are_read_where_they_lie(side, train):
    whole = part(50)
    whole.images[:, 4, 4] = np.arange(50)
    few = np.array([3, 7, 8, 20, 31, 49])

    def batches(part):
        order = generator() if train else None
        return Batches(part, batch_size=4, side=side, generator=order)

    there = batches(Part(whole.images, whole.labels, few))
    copied = list(batches(Part(whole.images[few], whole.labels[few])))
    assert len(there) == len(copied) == 2 - train
    for (images, labels), (own_images, own_labels) in zip(there, copied, strict=True):
        assert torch.equal(images, own_images)
        assert torch.equal(labels, own_labels)
    assert np.shares_memory(there.pixels.numpy(), whole.images) == (side == 0)


def test_plain_batches_come_in_order_and_whole():
    batches = Batches(part(), batch_size=4)
    assert [b[1].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(batches) == 3


def test_the_same_seed_gives_the_same_batches():
    limits = Augmentation(rotation=20, translation=0.1, scaling=0.1)
    one, two = (
        torch.cat(
            [
                b[0]
                for b in Batches(part(), batch_size=4, augmentation=limits, generator=generator())
            ]
        )
        for _ in range(2)
    )
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [("unit", 0, 1), ("symmetric", -1, 1), ("raw", 0, 255), ("root", 0, 1)],
)
def test_pixels_are_scaled_the_same_with_and_without_augmentation(scale, low, high):
    pixels = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert to_floats(pixels, scale).flatten().tolist() == [low, high]
    plain = Batches(part(), batch_size=10, pixel_scale=scale, generator=generator())
    still = Augmentation(rotation=1e-9)
    moved = Batches(
        part(), batch_size=10, pixel_scale=scale, generator=generator(), augmentation=still
    )
    (a, _), (b, _) = next(iter(plain)), next(iter(moved))
    assert torch.allclose(a, b, atol=1e-3)


def test_images_are_averaged_down():
    pixels = to_pixels(torch.from_numpy(part().images), side=4)
    assert pixels.shape == (10, 1, 4, 4)
    assert pixels.dtype == torch.uint8
    assert pixels.float().mean() == pytest.approx(200 * 8 / 64, rel=0.1)


def test_no_augmentation_moves_nothing():
    images = torch.rand(5, 1, 9, 9)
    assert torch.allclose(augment(images, Augmentation(), generator()), images, atol=1e-5)


def test_translation_stays_within_its_limit():
    image = torch.zeros(200, 1, 21, 21)
    image[:, :, 10, 10] = 1
    moved = augment(image, Augmentation(translation=0.2), generator())
    rows = moved.sum(3)[:, 0]
    centre = (rows * torch.arange(21)).sum(1) / rows.sum(1)
    shift = (centre - 10).abs()
    assert shift.max() <= 0.2 * 21 + 1e-3
    assert shift.max() > 0.15 * 21


def test_a_turned_and_scaled_image_moves_no_further_than_an_upright_one():
    image = torch.zeros(300, 1, 41, 41)
    image[:, :, 19:22, 19:22] = 1
    limits = Augmentation(rotation=45, scaling=0.3, translation=0.2)
    moved = augment(image, limits, generator())[:, 0]
    places = torch.arange(41) - 20.0
    for rows in (moved.sum(1), moved.sum(2)):
        shift = ((rows * places).sum(1) / rows.sum(1)).abs()
        assert 0.18 * 41 < shift.max() <= 0.2 * 41 + 0.1


def test_rotation_turns_about_the_centre():
    image = torch.zeros(200, 1, 41, 41)
    image[:, :, 20, 36] = 1  # 16 to the right of the centre
    moved = augment(image, Augmentation(rotation=20), generator())[:, 0]
    places = moved.flatten(1).argmax(1)
    angles = torch.rad2deg(torch.atan2(places // 41 - 20.0, places % 41 - 20.0))
    assert 15 < angles.abs().max() <= 20 + 3
    assert (angles > 5).any()
    assert (angles < -5).any()


def test_scaling_changes_the_size_within_its_limit():
    image = torch.zeros(200, 1, 41, 41)
    image[:, :, 10:31, 10:31] = 1
    area = augment(image, Augmentation(scaling=0.2), generator()).sum((1, 2, 3)) / 441
    assert 0.8**2 * 0.93 < area.min() < 0.85**2
    assert 1.15**2 < area.max() < 1.2**2 * 1.07


def test_gamma_moves_the_grey_within_its_limit_and_keeps_black_and_white():
    image = torch.tensor([0.0, 64.0, 255.0]).repeat(200, 1, 3, 1)
    bent = augment(image, Augmentation(gamma=0.5), generator())[:, 0, 1]
    assert torch.allclose(bent[:, [0, 2]], torch.tensor([0.0, 255.0]), atol=1e-3)
    powers = torch.log(torch.log(bent[:, 1] / 255) / math.log(64 / 255))
    assert powers.abs().max() <= 0.5 + 1e-4
    assert powers.min() < -0.4
    assert powers.max() > 0.4
