"""The two questions of lazhili8's Chinese MNIST networks, over a whole space of their kind.

At half resolution and a few epochs a trial, so that many trials can be drawn at random and trained
to their end: `search chinese_pooling --sampler random --scheduler none --trials 200`. The report
then says what pooling and more filters are worth, all else equal.
"""

from hwtune.space import SearchSpace, choice, log_uniform

SPACE = SearchSpace(
    question="What are pooling and more filters worth, all else equal?",
    data="chinese_mnist",
    model="cnn",
    fixed={"side": 32, "epochs": 6, "padding": "same", "hidden": "none"},
    search={
        "pool": choice("max", "none"),
        "filters": choice("16-32", "32-64"),
        "kernel": choice("3", "5"),
        "norm": choice("none", "before"),
        "head": choice("flatten", "max"),
        "pixel_scale": choice("unit", "symmetric", "raw"),
        "optimizer": choice("adam", "sgd"),
        "lr": log_uniform(3e-4, 1e-2),
        "lr_schedule": choice("constant", "onecycle"),
        "batch_size": choice(32, 64, 128),
        "label_smoothing": choice(0.0, 0.05),
    },
)
