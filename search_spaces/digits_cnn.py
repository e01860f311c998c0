"""scikit-learn's bundled digits: the quick question; `--trials 6` answers it in about a minute."""

from hwtune.space import SearchSpace, choice, log_uniform

SPACE = SearchSpace(
    question="How small a network reads 8x8 digits?",
    data="digits",
    model="cnn",
    fixed={"epochs": 9, "optimizer": "adamw", "lr_schedule": "onecycle", "pixel_scale": "unit"},
    search={
        "filters": choice("8-16", "16-32", "32-64", "16-32-64"),
        "convs_per_stage": choice(1, 2),
        "pool": choice("max", "avg", "none"),
        "norm": choice("none", "before"),
        "head": choice("avg", "max", "flatten"),
        "hidden": choice("none", "64"),
        "dropout": choice("0", "0.3"),
        "lr": log_uniform(1e-4, 3e-2),
        "translation": choice(0.0, 0.05, 0.1),
        "batch_size": choice(32, 64),
    },
    baselines={
        # The layers that tutorials begin with; not a published system.
        "plain": {
            "filters": "32-64",
            "convs_per_stage": 1,
            "pool": "max",
            "norm": "none",
            "head": "flatten",
            "hidden": "64",
            "dropout": "0",
            "lr": 1e-3,
            "translation": 0.0,
            "batch_size": 64,
        },
    },
    max_parameters=500_000,
)
