"""Chinese MNIST by a plain convolutional network."""

from hwtune.space import Published, SearchSpace, choice, log_uniform, uniform

# What the published systems below have in common.
PLAIN = {
    "side": 64,
    "stem_stride": 1,
    "convs_per_stage": 1,
    "pool": "max",
    "spatial_dropout": "0",
    "head": "flatten",
    "rotation": 0.0,
    "translation": 0.0,
    "scaling": 0.0,
    "gamma": 0.0,
    "label_smoothing": 0.0,
    "ema": 0.0,
    "batch_size": 64,
}

LAZHILI8 = {
    **PLAIN,
    "pixel_scale": "raw",
    "filters": "16-32",
    "kernel": "5",
    "norm": "none",
    "hidden": "none",
    "hidden_norm": False,
    "dropout": "0",
    "optimizer": "sgd",
    "lr": 1e-5,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "softmax": False,
    "clip_value": 0.0,
}

VGG = {
    **PLAIN,
    "pixel_scale": "unit",
    "rotation": 12.0,
    "translation": 0.08,
    "scaling": 0.1,
    "filters": "16-32-64-128",
    "convs_per_stage": 2,
    "kernel": "3",
    "norm": "before",
    "head": "max",
    "hidden": "none",
    "hidden_norm": False,
    "dropout": "0",
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 2e-2,
    "lr_schedule": "onecycle",
    "softmax": False,
    "label_smoothing": 0.05,
    "clip_value": 0.0,
    "ema": 0.99,
}

SPACE = SearchSpace(
    question="Is the pooling layer necessary, and do more filters help?",
    data="chinese_mnist",
    model="cnn",
    fixed={"epochs": 12, "padding": "same", "activation": "relu", "momentum": 0.9},
    search={
        # images
        "side": choice(32, 64),
        "pixel_scale": choice("unit", "root", "symmetric", "raw"),
        "rotation": uniform(0.0, 25.0),
        "translation": uniform(0.0, 0.2),
        "scaling": uniform(0.0, 0.3),
        "gamma": uniform(0.0, 1.0),
        # architecture
        "filters": choice(
            "16-32", "32-64", "64-32", "16-32-64", "24-48-96", "32-64-128", "16-32-64-128"
        ),
        "convs_per_stage": choice(1, 2),
        "kernel": choice("3", "5"),
        "stem_stride": choice(2, 1),
        "norm": choice("none", "before", "after"),
        "pool": choice("max", "avg", "none"),
        "spatial_dropout": choice("0", "0.1", "0.2"),
        "head": choice("max", "avg", "flatten"),
        "hidden": choice("none", "128", "512"),
        "hidden_norm": choice(False, True),
        "dropout": choice("0", "0.2", "0.4"),
        # optimisation
        "optimizer": choice("adam", "adamw", "sgd"),
        "lr": log_uniform(1e-5, 1e-2),
        "weight_decay": choice(0.0, 1e-4, 2e-2),
        "lr_schedule": choice("constant", "onecycle"),
        "batch_size": choice(32, 64, 128),
        "softmax": choice(False, True),
        "label_smoothing": choice(0.0, 0.05),
        "clip_value": choice(0.0, 0.1),
        "ema": choice(0.0, 0.99),
    },
    baselines={
        "oafarih": {
            **PLAIN,
            "pixel_scale": "symmetric",
            "filters": "64-32",
            "kernel": "3",
            "norm": "after",
            "hidden": "512",
            "hidden_norm": True,
            "dropout": "0.4",
            "optimizer": "adam",
            "lr": 1e-3,
            "weight_decay": 1e-4,
            "lr_schedule": "onecycle",
            "softmax": True,
            "clip_value": 0.1,
        },
        # Its two variants answer, by one run each, what this space asks.
        "lazhili8_cnn": LAZHILI8,
        "lazhili8_cnn_wide": {**LAZHILI8, "filters": "32-64"},
        "lazhili8_cnn_nopool": {**LAZHILI8, "pool": "none"},
    },
    published={
        "oafarih": Published(
            headline=0.9948,
            really="1,492 of 1,500 test images, writers mixed across the splits",
            values={"epochs": 80},
            split={"kind": "random", "validation": 0.1, "test": 0.1},
            source="https://github.com/oafarih/Chinese_Handwritten_Numbers_Classification",
        ),
        **{
            name: Published(
                headline=best,
                really="1,500 images watched in each of 100 epochs, no validation set",
                values={"epochs": 100},
                split={"kind": "random", "validation": 0.0, "test": 0.1},
                source="https://github.com/lazhili8/CNN-Model-for-MNIST-Chinese-Handwritten-Numerals-",
            )
            for name, best in (
                ("lazhili8_cnn", 0.943),
                ("lazhili8_cnn_wide", 0.939),
                ("lazhili8_cnn_nopool", 0.887),
            )
        },
    },
    starts={
        # A small VGG: what is known to work on handwriting, untuned. It looks at the image in full
        # resolution, which faint and tiny strokes need; a stride of 2 would halve its cost.
        "vgg": VGG,
        # The same, distorted more, which pays when it is trained for longer.
        "vgg_strong": {
            **VGG,
            "rotation": 18.0,
            "translation": 0.12,
            "scaling": 0.18,
            "gamma": 0.5,
        },
        # What cross-validation chose of an hour's search (trial 35 of results/chinese_cnn-hour, 20
        # epochs), its values rounded.
        "vgg_shifted": {
            **VGG,
            "rotation": 2.1,
            "translation": 0.16,
            "gamma": 0.12,
            "lr": 3.3e-3,
        },
    },
    found_on={"vgg_shifted": {"kind": "random", "seed": 0, "images": 15_000, "writers": 100}},
    max_parameters=5_000_000,
    max_macs=100_000_000,
)
