"""MNIST by a plain convolutional network."""

from hwtune.space import Published, SearchSpace, choice, log_uniform, uniform

PLAIN = {
    "rotation": 0.0,
    "translation": 0.0,
    "scaling": 0.0,
    "gamma": 0.0,
    "convs_per_stage": 1,
    "kernel": "3",
    "norm": "none",
    "head": "flatten",
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "label_smoothing": 0.0,
    "ema": 0.0,
}

# A small VGG with a global pooling, what is known to work on handwriting, untuned.
VGG = {
    **PLAIN,
    "pixel_scale": "unit",
    "rotation": 12.0,
    "translation": 0.08,
    "scaling": 0.1,
    "filters": "16-32-64",
    "convs_per_stage": 2,
    "padding": "same",
    "activation": "relu",
    "norm": "before",
    "pool": "max",
    "spatial_dropout": "0",
    "head": "max",
    "hidden": "none",
    "dropout": "0",
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 2e-2,
    "lr_schedule": "onecycle",
    "batch_size": 64,
    "label_smoothing": 0.05,
    "ema": 0.99,
}

GAURAV = {
    **PLAIN,
    "rotation": 15.0,
    "translation": 0.1,
    "scaling": 0.1,
    "filters": "8-16",
    "padding": "same",
    "activation": "none",
    "spatial_dropout": "0.4-0.2",
    "batch_size": 32,
}

AHED9X = {
    **PLAIN,
    "pixel_scale": "unit",
    "filters": "32-64",
    "padding": "none",
    "activation": "relu",
    "pool": "max",
    "spatial_dropout": "0",
    "hidden": "128",
    "dropout": "0",
}

# How it was trained: Keras's defaults, halved on a plateau, stopped early.
AHED9X_RUN = {
    "epochs": 100,
    "lr_schedule": "plateau",
    "lr_decay": 0.5,
    "lr_patience": 5,
    "early_stop": 10,
    "eps": 1e-7,
    "init": "glorot",
}
HALVED = {"kind": "halved"}

SPACE = SearchSpace(
    question="How well can a network of at most 500,000 parameters read MNIST?",
    data="mnist",
    model="cnn",
    fixed={"epochs": 12},
    search={
        "pixel_scale": choice("unit", "root", "symmetric", "raw"),
        "rotation": uniform(0.0, 20.0),
        "translation": uniform(0.0, 0.15),
        "scaling": uniform(0.0, 0.2),
        "gamma": uniform(0.0, 1.0),
        "filters": choice("8-16", "16-32", "16-32-64", "32-64", "24-48-96", "32-64-96"),
        "convs_per_stage": choice(1, 2, 3),
        "kernel": choice("3", "5"),
        "padding": choice("none", "same"),
        "activation": choice("none", "relu"),
        "norm": choice("none", "before"),
        "pool": choice("max", "avg", "none", "avg-max", "max-none"),
        "spatial_dropout": choice("0", "0.1", "0.4-0.2"),
        "head": choice("max", "avg", "flatten"),
        "hidden": choice("none", "128", "512-128-64", "784-196-49"),
        "dropout": choice("0", "0.2", "0.4", "0.5-0.3-0.15", "0.6-0.3-0.15"),
        "optimizer": choice("adam", "adamw", "sgd"),
        "lr": log_uniform(1e-4, 3e-2),
        "weight_decay": choice(0.0, 1e-4, 2e-2),
        "lr_schedule": choice("constant", "onecycle", "exponential"),
        "batch_size": choice(16, 32, 64, 128),
        "label_smoothing": choice(0.0, 0.05),
        "ema": choice(0.0, 0.99, 0.999),
    },
    baselines={
        "gaurav_tuned": {
            **GAURAV,
            "pixel_scale": "symmetric",
            "pool": "avg-max",
            "hidden": "512-128-64",
            "dropout": "0.5-0.3-0.15",
        },
        "gaurav_base": {
            **GAURAV,
            "pixel_scale": "unit",
            "pool": "max-none",
            "hidden": "784-196-49",
            "dropout": "0.6-0.3-0.15",
        },
        **{f"ahed9x_{size}": {**AHED9X, "batch_size": size} for size in (128, 64, 32, 16)},
    },
    published={
        "gaurav_tuned": Published(
            headline=0.9910,
            really="5,000 images, half of the test set",
            values={"epochs": 15},
            split=HALVED,
        ),
        "gaurav_base": Published(
            headline=0.9769,
            really="5,000 images, half of the test set",
            values={"epochs": 10},
            split=HALVED,
        ),
        **{
            f"ahed9x_{size}": Published(
                headline=test,
                really="one run on the 10,000 test images (the author's 99.18 % is validation)"
                if size == 16
                else "one run on the 10,000 test images",
                values=AHED9X_RUN,
                split={"kind": "ordered", "validation": 0.1},
                source="https://github.com/ahed9x/MNIST_handwritten_number_recognition",
            )
            for size, test in ((16, 0.9910), (32, 0.9916), (64, 0.9900), (128, 0.9881))
        },
    },
    starts={
        "vgg": VGG,
        "vgg_wide": {**VGG, "filters": "32-64-96", "batch_size": 128},
    },
    max_parameters=500_000,
    max_macs=40_000_000,
)
