"""Chinese MNIST in about a minute of one core."""

from hwtune.space import SearchSpace, choice, log_uniform, uniform

START = {
    "side": 32,
    "stem_stride": 1,
    "pixel_scale": "root",
    "rotation": 8.0,
    "translation": 0.05,
    "scaling": 0.1,
    "filters": "16-32-64-128",
    "convs_per_stage": 2,
    "head": "max",
    "lr": 8e-3,
    "weight_decay": 2e-2,
    "batch_size": 64,
    "label_smoothing": 0.05,
    "ema": 0.95,
}

SPACE = SearchSpace(
    question="What reads Chinese MNIST best of all that one core can train in a minute?",
    data="chinese_mnist",
    model="cnn",
    # A core with bf16 trains seven epochs of 13,500 images in 42 to 71 seconds where an image costs
    # 13 million multiply-accumulates (results/bench/speedrun.md, results/LOG.md).
    fixed={
        "epochs": 7,
        "optimizer": "adamw",
        "lr_schedule": "onecycle",
        "norm": "before",
        "kernel": "3",
    },
    search={
        "side": choice(32, 48, 64),
        "stem_stride": choice(2, 1),
        "pixel_scale": choice("unit", "root"),
        "rotation": uniform(0.0, 15.0),
        "translation": uniform(0.0, 0.1),
        "scaling": uniform(0.0, 0.2),
        "filters": choice(
            "16-32-64", "24-48-96", "32-64-128", "16-32-64-128", "24-48-96-128", "32-64-128-128"
        ),
        "convs_per_stage": choice(1, 2),
        "head": choice("max", "avg", "flatten"),
        "lr": log_uniform(1e-3, 2e-2),
        "weight_decay": choice(0.0, 2e-2),
        "batch_size": choice(32, 64, 128),
        "label_smoothing": choice(0.0, 0.05),
        "ema": choice(0.0, 0.9, 0.95, 0.99),
    },
    # The winner of results/chinese_fast, which searched with five epochs, its values rounded.
    baselines={
        "hwtune_fast": {
            **START,
            "side": 64,
            "stem_stride": 2,
            "rotation": 9.9,
            "translation": 0.082,
            "scaling": 0.081,
            "lr": 1.63e-2,
            "weight_decay": 0.0,
        },
    },
    starts={"small_vgg": START, "strided_vgg": {**START, "side": 64, "stem_stride": 2}},
    found_on={"hwtune_fast": {"kind": "random", "seed": 0, "images": 15_000, "writers": 100}},
    max_parameters=1_000_000,
    max_macs=14_000_000,
)
