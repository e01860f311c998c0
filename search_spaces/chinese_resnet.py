"""Chinese MNIST by a residual network."""

from typing import Any

from hwtune.space import Published, SearchSpace, choice, log_uniform, uniform

LAZHILI8 = {
    "filters": "32-64-128-256-256",
    "strides": "1",
    "stem_kernel": 3,
    "stem_stride": 3,
    "conv_bias": True,
    "side": 64,
    "pixel_scale": "raw",
    "rotation": 0.0,
    "translation": 0.0,
    "scaling": 0.0,
    "gamma": 0.0,
    "optimizer": "adam",
    "lr": 1e-5,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "label_smoothing": 0.0,
    "batch_size": 64,
    "ema": 0.0,
}

# Ten epochs without a validation set.
WATCHED: dict[str, Any] = {
    "values": {"epochs": 10},
    "split": {"kind": "random", "validation": 0.0, "test": 0.1},
    "source": "https://github.com/lazhili8/CNN-Model-for-MNIST-Chinese-Handwritten-Numerals-",
}

SPACE = SearchSpace(
    question="How small a residual network reads Chinese numbers?",
    data="chinese_mnist",
    model="resnet",
    fixed={"epochs": 10},
    search={
        "side": choice(32, 64),
        "pixel_scale": choice("unit", "root", "symmetric", "raw"),
        "rotation": uniform(0.0, 20.0),
        "translation": uniform(0.0, 0.15),
        "scaling": uniform(0.0, 0.2),
        "gamma": uniform(0.0, 1.0),
        "filters": choice(
            "16-32-64", "16-32-64-128", "32-64-128-256", "32-64-128-256-256", "resnet18"
        ),
        "strides": choice("2", "1"),
        "stem_kernel": choice(3, 5, 7),
        "stem_stride": choice(3, 2, 1),
        "conv_bias": choice(False, True),
        "optimizer": choice("adam", "adamw"),
        "lr": log_uniform(1e-5, 1e-2),
        "weight_decay": choice(0.0, 1e-4, 2e-2),
        "lr_schedule": choice("constant", "onecycle"),
        "label_smoothing": choice(0.0, 0.05),
        "batch_size": choice(32, 64, 128),
        "ema": choice(0.0, 0.99),
    },
    baselines={
        "lazhili8_resnet": LAZHILI8,
        # What the README of the same author describes: torchvision's, its stem and output changed.
        "lazhili8_resnet18": {**LAZHILI8, "filters": "resnet18"},
    },
    published={
        "lazhili8_resnet": Published(
            headline=0.992,
            really="1,500 images watched in each of 10 epochs, no validation set",
            **WATCHED,
        ),
        "lazhili8_resnet18": Published(
            headline=None,
            really="described in the author's README, while the code has the network above",
            **WATCHED,
        ),
    },
    starts={
        "slim": {
            **LAZHILI8,
            "filters": "16-32-64-128",
            "strides": "2",
            "stem_kernel": 5,
            "stem_stride": 1,
            "conv_bias": False,
            "pixel_scale": "unit",
            "rotation": 12.0,
            "translation": 0.08,
            "scaling": 0.1,
            "optimizer": "adamw",
            "lr": 4e-3,
            "weight_decay": 2e-2,
            "lr_schedule": "onecycle",
            "label_smoothing": 0.05,
            "ema": 0.99,
        },
    },
    max_parameters=12_000_000,
)
