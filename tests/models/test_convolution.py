"""Convolutions by matrix tiles, and the batch norms that are put off, give what torch's give."""

import copy

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hwtune.models.convolution import WIDEST, Convolution
from hwtune.models.kernels import has_tiles
from hwtune.models.layers import Conv, Dropout, Flatten, Linear, Norm, Pool, Relu, Residual
from hwtune.models.modules import run, sequence
from hwtune.models.norm import BatchNorm, Raw
from hwtune.models.pooling import MaxPoolRelu

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not has_tiles(), reason="a CPU without AMX, or no compiler for it"),
]


def short():
    return torch.autocast("cpu", torch.bfloat16)


def eighths(*size):
    """Return numbers whose products add up exactly, whatever the order."""
    return torch.randint(-8, 9, size) / 8


def of_how(channels, filters, *, kernel=3, stride=1, padding=1, bias=True):
    return Convolution(channels, filters, kernel=kernel, stride=stride, padding=padding, bias=bias)


def layer(channels, filters, *, kernel=3, padding=1, bias=True):
    made = of_how(channels, filters, kernel=kernel, padding=padding, bias=bias)
    for weight in made.parameters():
        weight.data = eighths(*weight.shape)
    return made


def convolved(conv, images, *, autocast=False):
    """Return what a convolution makes of images, and the gradients of these and of its weights."""
    conv.zero_grad()
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        answer = conv(images)
    random = torch.Generator().manual_seed(1)
    answer.backward(torch.randint(-3, 4, answer.shape, generator=random).to(answer))
    return [answer.detach(), images.grad, *(weight.grad for weight in conv.parameters())]


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 3, 16, 20, 32, 48, WIDEST]),
    st.sampled_from([1, 5, 16, 17, 32, 40, 64, 100]),
    st.tuples(st.integers(0, 15), st.integers(0, 15)),
    st.sampled_from([(1, 0), (2, 0), (3, 0), (3, 1), (4, 1), (5, 0), (5, 1), (5, 2), (7, 3)]),
    st.booleans(),
    st.integers(0, 99),
)
@example(40, 16, 16, (9, 7), (3, 1), True, 0)  # more images than lie on a line
@example(3, 4, 4, (40, 70), (3, 1), True, 0)  # one image is longer than a line
def test_a_convolution_gives_what_is_exact_and_rounds_what_it_writes(
    count, channels, filters, more, how, bias, seed
):
    torch.manual_seed(seed)
    kernel, padding = how
    sides = [kernel - 2 * padding + each for each in more]  # at least one pixel is left
    conv = layer(channels, filters, kernel=kernel, padding=padding, bias=bias)
    images = eighths(count, channels, *sides)
    ours = convolved(conv, images, autocast=True)
    exact = convolved(copy.deepcopy(conv).double(), images.double())
    assert ours[0].dtype == torch.bfloat16
    assert torch.equal(ours[0], exact[0].bfloat16())
    assert torch.equal(ours[1], exact[1].bfloat16().float())
    for one, other in zip(ours[2:], exact[2:], strict=True):
        assert torch.equal(one.double(), other)


def test_maps_and_gradients_may_lie_in_memory_as_they_like():
    torch.manual_seed(0)
    conv, wide = layer(16, 20), eighths(4, 16, 16, 16)
    kept = wide.bfloat16().contiguous(memory_format=torch.channels_last)
    broad = eighths(2, 40, 9, 9).bfloat16().contiguous(memory_format=torch.channels_last)
    for images in (
        wide[1:3], wide[..., 1:9], wide.transpose(2, 3), kept[..., 1:9], kept[1:3], broad[:, 5:21],
    ):  # fmt: skip
        fresh = convolved(conv, images.contiguous(memory_format=torch.channels_last), autocast=True)
        assert all(map(torch.equal, convolved(conv, images, autocast=True), fresh))
    conv.zero_grad()
    with short():
        conv(wide).sum().backward()  # its gradient is one number, seen from everywhere
    assert torch.equal(conv.bias.grad[:1], torch.tensor([4 * 16.0**2]))


def test_a_convolution_hides_no_number_that_is_none():
    images = torch.zeros(3, 16, 9, 9)
    images[1, 2, 4, 4] = float("nan")
    with short():
        answer = layer(16, 20)(images)
    assert answer[1, :, 3:6, 3:6].isnan().all()
    assert not answer[[0, 2]].isnan().any()


def test_a_pooling_hides_no_number_that_is_none():
    images = torch.zeros(3, 16, 8, 8)
    images[1, 2, 5, 4] = float("nan")
    conv, norm = of_how(16, 20, kernel=1, padding=0), BatchNorm(20)
    with short():
        pooled = conv.pooled(norm, images)
    assert pooled.isnan().all()  # as the batch norm's statistics are
    norm.eval()
    with short(), torch.no_grad():
        pooled = MaxPoolRelu(nn.MaxPool2d(2))(conv.before(norm.requires_grad_(False), images))
    assert pooled[1, :, 2, 2].isnan().all()


@pytest.mark.parametrize(
    "conv", [of_how(8, 8, stride=2), of_how(8, 8, padding=2), of_how(8, WIDEST + 1)]
)
def test_other_convolutions_are_torchs(conv):
    images = torch.randn(2, 8, 9, 9)
    assert not conv.takes(images)
    with short():
        assert torch.equal(conv(images), nn.Conv2d.forward(conv, images))
    with pytest.raises(RuntimeError), short():
        conv(torch.zeros(2, 9, 9, 9))


def test_in_float32_and_for_several_threads_they_are_torchs():
    conv, images = layer(8, 8), torch.randn(2, 8, 9, 9)
    assert not conv.takes(images)
    with short():
        assert conv.takes(images)
        torch.set_num_threads(2)
        try:
            assert not conv.takes(images)
        finally:
            torch.set_num_threads(1)


NETWORKS = {
    "pooled": [Conv(1, 16, 3, 1, 1, True), Norm(16), Relu(), Conv(16, 24, 3, 1, 1, False), Norm(24),
               Relu(), Pool("max"), Conv(24, 40, 5, 1, 2, True), Norm(40), Relu()],
    "pooled narrowly": [Conv(1, 12, 2, 1, 0, True), Norm(12), Relu(), Pool("max"),
                        Conv(12, 5, 1, 1, 0, True), Norm(5), Relu(), Pool("max")],
    "pooled otherwise": [Conv(1, 20, 3, 1, 1, True), Norm(20), Relu(), Pool("max", 3, 2, 1)],
    "read by others": [Conv(1, 20, 3, 1, 1, True), Norm(20), Relu(), Pool("avg"),
                       Conv(20, 8, 3, 1, 0, True), Norm(8), Relu(), Dropout(0.0, channels=True),
                       Conv(8, 8, 3, 2, 1, True), Norm(8), Relu(), Conv(8, 8, 3, 1, 1, True)],
    "residual": [Conv(1, 16, 3, 1, 1, False), Norm(16), Relu(),
                 Residual((Conv(16, 16, 3, 1, 1, False), Norm(16), Relu(),
                           Conv(16, 16, 3, 1, 1, False), Norm(16)), ()),
                 Residual((Conv(16, 32, 3, 2, 1, False), Norm(32), Relu(),
                           Conv(32, 32, 3, 1, 1, False), Norm(32)),
                          (Conv(16, 32, 1, 2, 0, False), Norm(32)))],
}  # fmt: skip


def network(name):
    """Return a network whose batch norms shift and scale, some of them by negative numbers."""
    torch.manual_seed(0)
    made = sequence([*NETWORKS[name], Pool("avg", 0), Flatten()])
    for norm in made.modules():
        if isinstance(norm, BatchNorm):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return made


def step(model, images, *, autocast=True):
    """Return what a network makes of images, the gradients of its weights, and its statistics."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        answer = model(images)
    torch.manual_seed(1)
    (answer.double() * torch.randn(answer.shape)).sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return {"answer": answer.detach(), **gradients, **dict(model.named_buffers())}


def plain(monkeypatch):
    """Let torch compute all convolutions, and no batch norm be put off."""
    monkeypatch.setattr(Convolution, "takes", lambda *_, **__: False)


@pytest.mark.parametrize("sides", [(16, 16), (17, 15)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_as_near_to_an_exact_one_as_torchs_own_operations_are(
    name, sides, monkeypatch
):
    images = torch.rand(40, 1, *sides)
    ours, torchs, exact = network(name), network(name), network(name).double()
    got, true = step(ours, images), step(exact, images.double(), autocast=False)
    plain(monkeypatch)
    usual = step(torchs, images)
    for each, wanted in true.items():
        size = wanted.double().norm()
        off, allowed = ((of[each].double() - wanted).norm() for of in (got, usual))
        before_a_norm = each.endswith("bias") and size < 1e-9  # which takes it away again
        assert before_a_norm or off <= 1.5 * allowed + 0.01 * size, each


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_does_not_train_uses_its_running_statistics(name, monkeypatch):
    images = torch.rand(40, 1, 16, 16)
    model = network(name)
    for _ in range(3):
        step(model, images)
    exact = copy.deepcopy(model.eval()).double()
    with torch.no_grad(), short():
        got = model(images).double()
        plain(monkeypatch)
        usual = model(images).double()
    true = exact(images.double()).detach()
    assert (got - true).norm() <= 1.5 * (usual - true).norm() + 0.01 * true.norm()


def test_a_gradient_through_running_statistics_is_torchs():
    images = torch.rand(40, 1, 16, 16)
    model = network("pooled").eval()
    got = step(model, images)
    true = step(copy.deepcopy(model).double(), images.double(), autocast=False)
    for each, wanted in true.items():
        assert (got[each].double() - wanted).norm() <= 0.05 * wanted.double().norm() + 1e-9, each


def test_a_batch_norm_is_put_off_where_its_maps_are_read_once():
    model, images = network("pooled"), torch.rand(2, 1, 16, 16)
    first, norm, second, *_ = model
    with short():
        raw = first.before(norm, images)
        assert torch.equal(second(raw), second(raw.read()))
        assert isinstance(raw, Raw)
    exact = F.relu(norm(first(images)))
    torch.testing.assert_close(raw.read().float(), exact, rtol=0.02, atol=0.02)


def normed(channels, *, seed):
    """Return a convolution of some channels and the batch norm behind it."""
    torch.manual_seed(seed)
    conv, norm = of_how(5, channels), BatchNorm(channels, relu=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return conv, norm


@pytest.mark.parametrize("readers", [(24,), (40, 16), (8, None), (None, 8), (8, 8, 8)])
@pytest.mark.parametrize("channels", [3, 8, 16, 20, 40, 48, WIDEST])
def test_a_batch_norm_is_told_of_its_gradients_by_who_reads_it_or_asks_itself(channels, readers):
    images, gradients = torch.randn(7, 5, 9, 11), []
    for told in (True, False):
        conv, norm = normed(channels, seed=0)
        convs = [number and of_how(channels, number) for number in readers]
        with short():
            raw = conv.before(norm, images)
            answers = [
                raw.read() if each is None else each(raw if told else raw.read()) for each in convs
            ]
        loss = sum((answer.double() * answer.shape[1]).sin().sum() for answer in answers)
        loss.backward(retain_graph=True)
        loss.backward()
        gradients.append([weight.grad for weight in (*conv.parameters(), *norm.parameters())])
    for ours, own in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, own, rtol=0.02, atol=0.02 * float(own.abs().max()) + 1e-3)


@pytest.mark.parametrize("value", [0.3, 100.0, 1000.3])
def test_a_channel_of_equal_values_becomes_its_bias(value):
    conv, norm = of_how(16, 16, kernel=1, padding=0), BatchNorm(16, relu=True)
    nn.init.zeros_(conv.weight)
    nn.init.constant_(conv.bias, value)
    nn.init.constant_(norm.bias, 0.5)
    with short():
        read = conv.before(norm, torch.randn(4, 16, 64, 64)).read()
    assert torch.equal(read, torch.full_like(read, 0.5))


def test_statistics_are_of_what_is_written_and_lose_little_where_all_is_far_from_zero():
    torch.manual_seed(0)
    conv, norm = layer(16, 40), BatchNorm(40, relu=True)
    nn.init.constant_(conv.bias, 500.0)
    with short():
        maps, statistics = conv.before(norm, torch.randn(3, 16, 64, 64))
    exact = maps.double().transpose(0, 1).flatten(1)
    mean, variance, *_ = statistics.double()
    torch.testing.assert_close(mean, exact.mean(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance, exact.var(1, correction=0), rtol=0.01, atol=0)


@pytest.mark.parametrize("count", [1, 12, 13, 25])  # one more than lie on a line, and others
def test_images_that_are_left_over_lack_nothing(count, monkeypatch):
    torch.manual_seed(0)
    conv, norm = layer(16, 20), BatchNorm(20, relu=True)
    images = eighths(count, 16, 8, 8).requires_grad_()

    def gradients():
        conv.zero_grad()
        images.grad = None
        with short():
            run([conv, norm], images).float().square().sum().backward()
        return [images.grad, conv.weight.grad, norm.weight.grad]

    ours = gradients()
    norm.zero_grad()
    plain(monkeypatch)
    for one, other in zip(ours, gradients(), strict=True):
        assert (one - other).norm() <= 0.03 * other.norm()


def test_a_batch_norm_of_other_channels_complains_as_torchs_does():
    conv, norm = layer(16, 20), BatchNorm(16, relu=True)
    with pytest.raises(RuntimeError), short():
        run([conv, norm], torch.zeros(2, 16, 8, 8))


def test_what_is_frozen_has_no_gradient_and_the_rest_has():
    model, images = network("pooled"), torch.rand(4, 1, 16, 16)
    model[0].requires_grad_(False)
    every = step(network("pooled"), images)
    got = step(model, images)
    assert got["0.weight"] is None
    assert all(torch.equal(got[each], every[each]) for each in got if each[:2] not in ("0.",))


def test_an_image_is_read_alike_alone_and_among_others():
    model, images = network("pooled").eval(), torch.rand(30, 1, 16, 16)
    with torch.no_grad(), short():
        among = model(images)
        assert torch.equal(model(images[7:8]), among[7:8])
    assert model(torch.zeros(0, 1, 16, 16)).shape == (0, 40)
    with pytest.raises(ValueError, match="more than 1 value"), short():
        run([layer(1, 16, kernel=1, padding=0), BatchNorm(16, relu=True)], torch.rand(1, 1, 1, 1))


def test_a_network_learns_alike_with_tiles_and_without(monkeypatch):
    images, labels = torch.rand(64, 1, 16, 16), torch.arange(64) % 4
    losses = []
    for with_tiles in (True, False):
        if not with_tiles:
            plain(monkeypatch)
        model = nn.Sequential(network("pooled"), sequence([Linear(40, 4)]))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(30):
            with short():
                logits = model(images)
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
