import subprocess
import sys

import pytest
import torch
from torch import nn

from hwtune.config import TrialConfig
from hwtune.errors import NoPixelError, SpaceError
from hwtune.models import MODELS, build_model, measure_cost
from hwtune.models.layers import Conv, Cost, Norm, Pool, Relu
from hwtune.models.modules import sequence
from scripts.bench.engine import as_written

PUBLISHED = {
    "oafarih": (4_222_831, 64, 15, {
        "filters": "64-32", "norm": "after", "hidden": "512", "dropout": "0.4", "hidden_norm": True,
    }),
    "lazhili8_cnn": (136_143, 64, 15, {"filters": "16-32", "kernel": "5"}),
    "lazhili8_cnn_wide": (297_871, 64, 15, {"filters": "32-64", "kernel": "5"}),
    "lazhili8_resnet": (2_393_679, 64, 15, {
        "model": "resnet", "filters": "32-64-128-256-256", "strides": "1", "stem_stride": 3,
    }),
    "modelm3": (1_124_180, 28, 10, {
        "filters": "32-48-64-80-96-112-128-144-160-176", "padding": "none", "pool": "none",
        "norm": "before", "conv_bias": False, "output_norm": True,
    }),
    "modelm5": (1_128_180, 28, 10, {
        "filters": "32-64-96-128-160", "kernel": "5", "padding": "none", "pool": "none",
        "norm": "before", "conv_bias": False, "output_norm": True,
    }),
    "modelm7": (2_291_972, 28, 10, {
        "filters": "48-96-144-192", "kernel": "7", "padding": "none", "pool": "none",
        "norm": "before", "conv_bias": False, "output_norm": True,
    }),
    "gaurav_base": (2_624_669, 28, 10, {
        "filters": "8-16", "pool": "max-none", "activation": "none", "spatial_dropout": "0.4-0.2",
        "hidden": "784-196-49", "dropout": "0.6-0.3-0.15",
    }),
    "gaurav_tuned": (477_738, 28, 10, {
        "filters": "8-16", "pool": "avg-max", "activation": "none", "spatial_dropout": "0.4-0.2",
        "hidden": "512-128-64", "dropout": "0.5-0.3-0.15",
    }),
    "ahed9x": (225_034, 28, 10, {"filters": "32-64", "padding": "none", "hidden": "128"}),
}  # fmt: skip


def kinds(model):
    return [type(layer).__name__ for layer in model]


@pytest.mark.parametrize(
    "values",
    [
        {"filters": "8-16"},
        {"filters": "8-16", "output_norm": True},
        {"model": "resnet", "filters": "8-16", "strides": "1", "stem_stride": 1},
        {"model": "resnet", "filters": "resnet18"},
    ],
)
def test_what_a_network_answers_is_not_rounded_to_bfloat16(values):
    torch.manual_seed(0)
    model = build_model(TrialConfig(**values), classes=10, side=32).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(16, 1, 32, 32))
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).float().mean() > 0.9


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_computes_in_the_type_of_its_weights(dtype):
    model = build_model(TrialConfig(filters="8-16", norm="before"), classes=10, side=32).to(dtype)
    assert model(torch.randn(2, 1, 32, 32, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_its_parameters_to_the_digit(name):
    parameters, side, classes, values = PUBLISHED[name]
    config = TrialConfig(**values)
    assert measure_cost(config, classes=classes, side=side).parameters == parameters
    model = build_model(config, classes=classes, side=side).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model(torch.zeros(2, 1, side, side)).shape == (2, classes)


def test_every_model_has_a_choice_in_the_config():
    assert {TrialConfig(model=name).model for name in MODELS} == set(MODELS)


def test_multiply_accumulates_are_counted():
    config = TrialConfig(filters="4", kernel="3", pool="none")
    # 64 places x 4 filters x 9 weights, then 256 features x 10 classes
    assert measure_cost(config, classes=10, side=8).macs == 64 * 4 * 9 + 256 * 10


@pytest.mark.parametrize("name", [*PUBLISHED, "resnet18"])
def test_the_cost_is_that_of_the_network_that_is_built(name):
    _, side, classes, values = PUBLISHED.get(
        name, (0, 64, 15, {"model": "resnet", "filters": "resnet18"})
    )
    config = TrialConfig(**values)
    model = as_written(build_model(config, classes=classes, side=side)).eval()
    macs = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda layer, _, output: macs.append(layer.weight[0].numel() * output.numel())
            )
    model(torch.zeros(1, 1, side, side))
    parameters = sum(p.numel() for p in model.parameters())
    assert measure_cost(config, classes=classes, side=side) == Cost(parameters, sum(macs))


def test_counting_needs_no_torch():
    code = (
        "import sys\n"
        "from hwtune.config import TrialConfig\n"
        "from hwtune.models import measure_cost\n"
        "measure_cost(TrialConfig(), classes=10, side=8)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_stage_has_its_layers_in_order():
    config = TrialConfig(
        filters="4-8", convs_per_stage=2, norm="before", spatial_dropout="0.1", pool="max-none",
        hidden="16", dropout="0.5", hidden_norm=True, head="avg",
    )  # fmt: skip
    conv = ["Convolution", "BatchNorm"]  # with its ReLU
    assert kinds(build_model(config, classes=3, side=8)) == [
        *conv, *conv, "Dropout2d", "MaxPool2d",
        *conv, *conv, "Dropout2d",
        "AdaptiveAvgPool2d", "Flatten",
        "Linear", "ReLU", "Dropout", "BatchNorm1d", "Logits",
    ]  # fmt: skip


def test_batch_norm_can_follow_the_pooling():
    config = TrialConfig(filters="4", norm="after", activation="none")
    expected = ["Convolution", "MaxPool2d", "BatchNorm", "Flatten", "Logits"]
    assert kinds(build_model(config, classes=3, side=8)) == expected


def test_only_the_first_convolution_has_the_stem_stride():
    config = TrialConfig(filters="4-8", convs_per_stage=2, stem_stride=2, kernel="5-3")
    convs = [m for m in build_model(config, classes=3, side=16) if isinstance(m, nn.Conv2d)]
    assert [c.stride[0] for c in convs] == [2, 1, 1, 1]
    assert [c.kernel_size[0] for c in convs] == [5, 5, 3, 3]


def test_a_norm_on_the_outputs_replaces_their_bias():
    *_, linear, norm = build_model(TrialConfig(output_norm=True), classes=3, side=8)
    assert linear.bias is None
    assert isinstance(norm, nn.BatchNorm1d)


@pytest.mark.parametrize(
    "values",
    [
        {"filters": "4-4-4-4"},
        {"filters": "4", "kernel": "9", "padding": "none"},
        {"filters": "4-4", "kernel": "5", "padding": "none"},
        {"model": "resnet", "filters": "4-4", "strides": "1", "stem_kernel": 9},
    ],
)
def test_a_network_that_leaves_no_pixel_is_refused(values):
    with pytest.raises(NoPixelError, match="no pixel of a 8x8 image"):
        build_model(TrialConfig(**values), classes=3, side=8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pool": "max-avg-none"}, "pool has 3 values where 2 fit"),
        ({"pool": "median"}, "pool='median'"),
        ({"filters": "none"}, "names no stage"),
        ({"kernel": "3-4"}, "kernel='3-4': padding 'same' wants odd kernels"),
        ({"hidden": "8-8", "dropout": "0.1-0.1-0.1"}, "dropout has 3 values"),
        ({"model": "resnet", "filters": "8"}, "a stem and a block"),
        ({"model": "resnet", "filters": "8-8-8", "strides": "1-1-1"}, "strides has 3 values"),
    ],
)
def test_lists_that_do_not_fit_are_refused(values, message):
    with pytest.raises(SpaceError, match=message):
        build_model(TrialConfig(**values), classes=3, side=16)


def test_torchvisions_resnet_takes_one_channel():
    config = TrialConfig(model="resnet", filters="resnet18")
    model = build_model(config, classes=15, side=64).eval()
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 15)
    assert model.conv1.in_channels == 1


def test_a_relu_becomes_one_with_the_pooling_behind_it_or_the_norm_before_it():
    norm, relu, pool = Norm(4), Relu(), Pool("max")
    assert kinds(sequence([relu, pool])) == ["MaxPoolRelu"]
    assert kinds(sequence([norm, relu, pool])) == ["BatchNorm", "MaxPoolRelu"]
    assert kinds(sequence([norm, relu, Pool("avg")])) == ["BatchNorm", "AvgPool2d"]
    assert [part.relu for part in sequence([norm, relu, norm])] == [True, False]
    assert kinds(sequence([relu, norm, pool])) == ["ReLU", "BatchNorm", "MaxPool2d"]


def test_a_first_convolution_becomes_one_with_its_relu_and_pooling():
    first, second = Conv(1, 4, 3, 1, 1, bias=True), Conv(4, 4, 3, 1, 1, bias=True)
    relu, pool = Relu(), Pool("max")
    assert kinds(sequence([first, relu, pool, second, relu, pool])) == [
        "Stem", "Convolution", "MaxPoolRelu",
    ]  # fmt: skip
    assert kinds(sequence([first, pool, second])) == ["Convolution", "MaxPool2d", "Convolution"]
    assert kinds(sequence([first, relu, second])) == ["Convolution", "ReLU", "Convolution"]
    joined = sequence([first, relu, pool, second]).state_dict()
    assert list(joined) == ["0.weight", "0.bias", "3.weight", "3.bias"]


def test_joined_layers_do_not_rename_the_weights_behind_them():
    joined = sequence([Norm(4), Relu(), Pool("max"), Relu(), Pool("max"), Norm(4), Relu(), Norm(4)])
    assert list(joined._modules) == ["0", "1", "3", "5", "7"]
