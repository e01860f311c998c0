"""The compiled operations give what torch's give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hwtune.models.kernels import can_take, library
from hwtune.models.modules import ResidualBlock
from hwtune.models.norm import BatchNorm
from hwtune.models.pooling import MaxPoolRelu
from hwtune.models.stem import Stem

pytestmark = pytest.mark.usefixtures("one_thread")
needs_a_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
SIZES = st.tuples(  # fewer and more channels than a register has places, odd sides, no image
    st.integers(0, 3),
    st.sampled_from([1, 3, 8, 20, 33, 64, 100, 300]),
    st.integers(2, 9),
    st.integers(2, 9),
)


@needs_a_compiler
def test_a_compiler_compiles_them():
    assert library() is not None


def maps(size, *, seed, dtype):
    """Return maps with many equal values, zeros of both signs among them."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(*size, generator=random).round(decimals=1)
    return values.to(dtype).contiguous(memory_format=torch.channels_last)


def results(operation, images):
    """Return what an operation makes of maps, and their gradient for one of it."""
    images = images.clone().requires_grad_()
    answer = operation(images * 1)
    random = torch.Generator().manual_seed(1)
    answer.backward(torch.randint(-3, 4, answer.shape, generator=random).to(answer))
    return answer.detach(), images.grad


@needs_a_compiler
@settings(deadline=None, max_examples=60)
@given(SIZES, st.integers(0, 99), st.sampled_from([torch.bfloat16, torch.float32]))
def test_pooling_gives_what_torch_gives_to_the_last_bit(size, seed, dtype):
    images = maps(size, seed=seed, dtype=dtype)
    assert can_take(images)
    ours = results(MaxPoolRelu(nn.MaxPool2d(2)), images)
    torchs = results(lambda x: F.max_pool2d(F.relu(x), 2), images)
    assert all(map(torch.equal, ours, torchs))


@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("odd", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_pooling_hides_no_number_that_is_none(odd, dtype):
    images = maps((1, 70, 4, 4), seed=0, dtype=dtype)
    images[0, :, 1, 2] = odd
    pooled = MaxPoolRelu(nn.MaxPool2d(2))(images)
    assert torch.equal(pooled.isnan(), F.relu(F.max_pool2d(images, 2)).isnan())
    assert torch.equal(pooled.isinf(), F.relu(F.max_pool2d(images, 2)).isinf())


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, 2, 1), nn.MaxPool2d(2, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True), nn.AdaptiveMaxPool2d(1),
    ],
)  # fmt: skip
def test_other_poolings_are_torchs_and_cannot_tell_either_which_comes_first(pool):
    images = maps((2, 8, 9, 9), seed=0, dtype=torch.float32)
    ours = results(MaxPoolRelu(pool), images)
    assert all(map(torch.equal, ours, results(lambda x: pool(F.relu(x)), images)))


@needs_a_compiler
@pytest.mark.parametrize(
    "operation",
    [
        MaxPoolRelu(nn.MaxPool2d(2)),
        BatchNorm(6, relu=True),
        ResidualBlock(nn.Sequential(BatchNorm(6)), nn.Identity()),
    ],
)
def test_maps_and_gradients_may_lie_in_memory_as_they_like(operation):
    wide = maps((4, 6, 8, 8), seed=0, dtype=torch.bfloat16)
    for images in (wide[1:3], wide.contiguous(), wide[..., 1:7]):
        fresh = images.clone(memory_format=torch.channels_last)
        assert all(map(torch.equal, results(operation, images), results(operation, fresh)))
    images = wide.clone().requires_grad_()
    operation(images * 1).sum().backward()  # its gradient is one number, seen from everywhere
    assert images.grad.isfinite().all()


@needs_a_compiler
def test_a_network_can_be_exported_where_one_thread_computes():
    network = nn.Sequential(stem_and_parts(3)[0], BatchNorm(3, relu=True), MaxPoolRelu(HALVING))
    network.eval()
    images = maps((2, 1, 8, 8), seed=0, dtype=torch.float32)
    assert can_take(images)
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images))


def step(norm, images, operation=None):
    """Return what a batch norm makes of maps, all gradients, and its running statistics.

    With `operation` its answer and gradients are those of what calls the batch norm.
    """
    answer, gradient = results(operation or norm, images)
    weights = [norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [answer, gradient, *(each.double() for each in weights)]


def norms(channels, *kinds, seed):
    """Return batch norms of these kinds with equal random weights."""
    torch.manual_seed(seed)
    made = [kind(channels) for kind in kinds]
    nn.init.normal_(made[0].weight)
    nn.init.normal_(made[0].bias)
    for each in made[1:]:
        each.load_state_dict(made[0].state_dict())
    return made


@needs_a_compiler
@settings(deadline=None, max_examples=60)
@given(SIZES.filter(lambda size: size[0]), st.integers(0, 99))
@example((16, 100, 40, 41), 0)
@example((64, 8, 33, 32), 0)
def test_a_batch_norm_differs_from_an_exact_one_by_rounding_alone(size, seed):
    images = 2 * maps(size, seed=seed, dtype=torch.bfloat16) + 3
    ours, exact = norms(size[1], BatchNorm, nn.BatchNorm2d, seed=seed)
    got, true = step(ours, images), step(exact.double(), images.double())
    for one, other, tolerance in zip(got, true, [0.01, 0.02, 0.02, 0.02, 1e-5, 1e-4], strict=True):
        assert (one.double() - other).norm() <= tolerance * other.norm() + 1e-3
    assert ours.num_batches_tracked == 1


@needs_a_compiler
@settings(deadline=None, max_examples=60)
@given(SIZES.filter(lambda size: size[0]), st.integers(0, 99))
def test_a_relu_within_a_batch_norm_gives_the_same_to_the_last_bit(size, seed):
    images = maps(size, seed=seed, dtype=torch.bfloat16)
    plain, fused = norms(
        size[1], BatchNorm, lambda channels: BatchNorm(channels, relu=True), seed=seed
    )
    apart = results(lambda x: F.relu(plain(x)), images)
    assert all(map(torch.equal, results(fused, images), apart))
    assert torch.equal(fused.weight.grad, plain.weight.grad)
    assert torch.equal(fused.bias.grad, plain.bias.grad)


@needs_a_compiler
@settings(deadline=None, max_examples=60)
@given(SIZES.filter(lambda size: size[0]), st.integers(0, 99))
def test_a_sum_within_a_batch_norm_differs_from_an_exact_one_by_rounding_alone(size, seed):
    images = maps(size, seed=seed, dtype=torch.bfloat16)
    plus = maps(size, seed=seed + 1, dtype=torch.bfloat16)
    ours, exact = norms(size[1], BatchNorm, nn.BatchNorm2d, seed=seed)
    exact.double()
    got_plus, true_plus = plus.clone().requires_grad_(), plus.double().requires_grad_()
    got = step(ours, images, lambda x: ours(x, plus=got_plus))
    passed = got[0] > 0  # rounding may move a sum across 0
    true = step(exact, images.double(), lambda x: (exact(x) + true_plus) * passed)
    pairs = [*zip(got, true, strict=True), (got_plus.grad, true_plus.grad)]
    for one, other in pairs:
        assert (one.double() - other).norm() <= 0.02 * other.norm() + 1e-3


def test_what_is_added_to_a_batch_norm_may_be_of_another_type():
    images = maps((2, 3, 4, 4), seed=0, dtype=torch.bfloat16)
    plus = maps((2, 3, 4, 4), seed=1, dtype=torch.float32)
    norm = BatchNorm(3)
    assert torch.equal(norm(images, plus=plus), F.relu(norm(images) + plus))


@needs_a_compiler
def test_a_channel_of_equal_values_becomes_its_bias():
    norm = BatchNorm(3)
    nn.init.constant_(norm.bias, 0.5)
    images = torch.full((2, 3, 4, 4), 100.0, dtype=torch.bfloat16)
    answer, gradient = results(norm, images)
    assert torch.equal(answer, torch.full_like(images, 0.5))
    assert gradient.isfinite().all()


@needs_a_compiler
def test_a_batch_norm_hides_no_number_that_is_none():
    images = torch.ones(2, 3, 4, 4, dtype=torch.bfloat16)
    images[1, 2, 3, 3] = float("nan")
    answer = BatchNorm(3, relu=True)(images)
    assert answer[:, 2].isnan().all()
    assert not answer[:, :2].isnan().any()


def test_a_batch_norm_that_does_not_train_uses_its_running_statistics():
    images = maps((2, 5, 4, 4), seed=0, dtype=torch.bfloat16)
    ours, torchs = norms(5, BatchNorm, nn.BatchNorm2d, seed=0)
    for norm in (ours, torchs):
        norm(images.float())
    assert torch.equal(ours.eval()(images), torchs.eval()(images))


def convolved(layer, images, *, dtype=None):
    """Return what a layer makes of images (N, 1, S, S), and the gradients of its weights."""
    layer.zero_grad()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        answer = layer(images)
    random = torch.Generator().manual_seed(1)
    answer.backward(torch.randint(-3, 4, answer.shape, generator=random).to(answer))
    return [answer.detach(), *(weight.grad for weight in layer.parameters())]


HALVING = nn.MaxPool2d(2)


def stem_and_parts(channels, *, kernel=3, stride=1, padding=1, bias=True, pool=HALVING):
    """Return a stem and the same of torch's own modules, their weights eighths: sums are exact."""
    stem = Stem(
        channels, kernel=kernel, stride=stride, padding=padding, bias=bias,
        pool=MaxPoolRelu(pool),
    )  # fmt: skip
    conv = nn.Conv2d(1, channels, kernel, stride, padding, bias=bias)
    for weight, same in zip(stem.parameters(), conv.parameters(), strict=True):
        weight.data = eighths(*weight.shape)
        same.data = weight.data.clone()
    return stem, nn.Sequential(conv, nn.ReLU(), pool)


def eighths(*size):
    return torch.randint(-8, 9, size) / 8


@needs_a_compiler
@settings(deadline=None, max_examples=100)
@given(
    SIZES,
    st.integers(0, 99),
    st.sampled_from([3, 5]),
    st.integers(1, 3),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([None, torch.bfloat16]),
)
def test_a_stem_gives_what_is_exact_and_rounds_what_it_writes(
    size, seed, kernel, stride, padding, bias, dtype
):
    count, channels, *sides = size
    torch.manual_seed(seed)
    images = eighths(count, 1, *(8 + side for side in sides))
    stem, exact = stem_and_parts(channels, kernel=kernel, stride=stride, padding=padding, bias=bias)
    assert type(stem(images).grad_fn).__name__ == "ConvolvingBackward"
    ours = convolved(stem, images, dtype=dtype)
    true = convolved(exact.double(), images.double())
    assert torch.equal(ours[0], true[0].to(dtype or torch.float32))
    for one, other in zip(ours[1:], true[1:], strict=True):
        assert torch.equal(one.double(), other)


@needs_a_compiler
def test_of_equal_pixels_the_first_gets_the_gradient_of_a_stem():
    torch.manual_seed(0)
    stem, parts = stem_and_parts(20)
    for conv in (stem, parts[0]):
        nn.init.zeros_(conv.weight)
        nn.init.ones_(conv.bias)
    images = torch.randn(2, 1, 12, 12)
    for ours, torchs in zip(convolved(stem, images), convolved(parts, images), strict=True):
        torch.testing.assert_close(ours, torchs)


@needs_a_compiler
def test_the_gradient_of_a_stem_sums_many_pixels_without_losing_any():
    stem, _ = stem_and_parts(4, padding=0)
    nn.init.ones_(stem.weight)
    answer = stem(torch.ones(256, 1, 66, 66))
    answer.backward(torch.full_like(answer, 0.1))
    exact = torch.full_like(stem.weight, 256 * 32**2 * 0.1)
    torch.testing.assert_close(stem.weight.grad, exact, rtol=1e-5, atol=0)


@needs_a_compiler
def test_a_stem_hides_no_number_that_is_none():
    images = torch.zeros(2, 1, 12, 12)
    images[1, 0, 7, 3] = float("nan")
    stem, parts = stem_and_parts(20)
    for dtype in (None, torch.bfloat16):
        both = zip(convolved(stem, images, dtype=dtype), convolved(parts, images), strict=True)
        assert all(torch.equal(one.isnan(), other.isnan()) for one, other in both)


@needs_a_compiler
def test_images_and_gradients_of_a_stem_may_lie_in_memory_as_they_like():
    wide = torch.randn(4, 1, 16, 16)
    stem, _ = stem_and_parts(20)
    for images in (wide[1:3], wide[..., 1:9], wide.transpose(2, 3)):
        fresh = convolved(stem, images.contiguous())
        assert all(map(torch.equal, convolved(stem, images), fresh))
    for gradient in (torch.ones(1).expand(4, 20, 8, 8), torch.ones(4, 20, 8, 8)):
        stem.zero_grad()
        stem(wide).backward(gradient)
        assert torch.equal(stem.bias.grad, torch.sum(stem(wide) > 0, (0, 2, 3)).float())


@needs_a_compiler
def test_a_stem_whose_weight_is_frozen_trains_its_bias():
    stem, _ = stem_and_parts(20)
    stem.weight.requires_grad_(False)
    images = eighths(2, 1, 12, 12)
    stem(images).sum().backward()
    assert stem.weight.grad is None
    assert torch.equal(stem.bias.grad, torch.sum(stem(images) > 0, (0, 2, 3)).float())
    with torch.no_grad():
        assert not stem(images).requires_grad


@pytest.mark.parametrize("pool", [HALVING, nn.MaxPool2d(3)])
@pytest.mark.parametrize(
    ("how", "image", "dtype"),
    [
        ({"kernel": 7}, {}, None), ({}, {"requires_grad": True}, None),
        ({}, {"dtype": torch.float64}, None), ({}, {}, torch.float16), ({"stride": 2}, {}, None),
    ],
)  # fmt: skip
def test_a_stem_gives_what_torch_gives_where_torch_computes_a_part_of_it(pool, how, image, dtype):
    torch.manual_seed(0)
    images = eighths(2, 1, 24, 24)
    parts_of = stem_and_parts(8, **how, pool=pool)
    both = []
    for each in parts_of:
        own = torch.empty_like(images, **image)
        own.data.copy_(images)
        both.append([*convolved(each.to(own.dtype), own, dtype=dtype), own.grad])
    assert all(
        one is other is None or torch.equal(one, other) for one, other in zip(*both, strict=True)
    )


def test_a_stem_complains_of_what_it_cannot_see_as_torch_does():
    stem, _ = stem_and_parts(8, kernel=5, padding=0)
    for size in ((1, 1, 4, 9), (1, 1, 5, 9), (1, 2, 9, 9)):
        with pytest.raises(RuntimeError):
            stem(torch.zeros(size))
    assert stem_and_parts(8)[0](torch.zeros(1, 9, 9)).shape == (8, 4, 4)  # without a batch


@needs_a_compiler
def test_several_threads_are_left_to_torch():
    images = torch.zeros(1, 1, 2, 2)
    assert can_take(images)
    torch.set_num_threads(2)
    try:
        assert not can_take(images)
    finally:
        torch.set_num_threads(1)


LOSS = """
import torch
from torch.nn import functional as F
from hwtune.config import TrialConfig
from hwtune.models import build_model
from hwtune.models.kernels import library
torch.set_num_threads(1)
torch.manual_seed(0)
model = build_model(TrialConfig(filters="16-20", norm="before"), classes=3, side=16)
images, labels = torch.rand(32, 1, 16, 16), torch.arange(32) % 3
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    loss = F.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(getattr(library(), '_name', None), loss.item())
"""


def trained(tmp_path, compiler):
    """Return the file of a process's compiled operations, or "None", and its last loss."""
    done = subprocess.run(
        [sys.executable, "-c", LOSS], check=True, capture_output=True, text=True,
        env={**os.environ, "HWTUNE_CACHE": str(tmp_path), "CXX": compiler},
    )  # fmt: skip
    compiled, loss = done.stdout.split()
    return compiled, float(loss)


@needs_a_compiler
def test_a_network_trains_alike_with_a_compiler_and_without(tmp_path):
    file, loss = trained(tmp_path, "c++")
    assert list(tmp_path.iterdir()) == [Path(file)], "a temporary folder may forbid to run it"
    assert file.endswith(".so")
    for compiler in ("", "no-such-compiler", "false", "c++ '-w"):
        file, plain = trained(tmp_path / "other", compiler)
        assert file == "None"
        assert loss == pytest.approx(plain, rel=0.01)


@needs_a_compiler
def test_a_kept_library_that_does_not_load_is_made_anew(tmp_path):
    trained(tmp_path, "c++")
    (made,) = tmp_path.iterdir()
    whole = made.read_bytes()
    made.write_bytes(b"no library")
    assert trained(tmp_path, "c++")[0] == str(made)
    assert made.read_bytes() == whole


@needs_a_compiler
def test_where_nothing_can_be_kept_each_process_compiles(tmp_path):
    (tmp_path / "file").touch()
    assert trained(tmp_path / "file", "c++ -w")[0].endswith(".so")


@needs_a_compiler
def test_with_tools_that_are_too_old_for_tiles_the_rest_is_compiled(tmp_path):
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\ncase "$*" in *-mno-amx-bf16*) exec c++ "$@" -w;; esac\nexit 1\n')
    old.chmod(0o700)
    assert trained(tmp_path / "cache", str(old))[0].endswith(".so")
