"""MNIST within a thousand steps, by the networks of An et al. and their kin.

An, Lee, Park, Yang, So, An Ensemble of Simple Convolutional Neural Network Models for MNIST Digit
Recognition, arXiv 2008.10400; their code is https://github.com/ansh941/MnistSimpleCNN.
"""

from hwtune.space import Published, SearchSpace, choice, log_uniform, uniform

# A thousand steps with raw pixels and a constant rate, no augmentation.
MODELM3 = {
    "pixel_scale": "raw",
    "rotation": 0.0,
    "translation": 0.0,
    "scaling": 0.0,
    "gamma": 0.0,
    "filters": "32-48-64-80-96-112-128-144-160-176",
    "kernel": "3",
    "output_norm": True,
    "optimizer": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "lr_schedule": "constant",
    "label_smoothing": 0.0,
    "ema": 0.0,
}
MODELM5 = {**MODELM3, "filters": "32-64-96-128-160", "kernel": "5"}
MODELM7 = {**MODELM3, "filters": "48-96-144-192", "kernel": "7"}

# Half as wide, with what is known to help a short training; untuned.
SLIM = {
    **MODELM3,
    "pixel_scale": "unit",
    "rotation": 10.0,
    "translation": 0.07,
    "scaling": 0.1,
    "filters": "16-24-32-40-48-56-64-72-80-88",
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 2e-2,
    "lr_schedule": "onecycle",
    "ema": 0.98,
}

# The original's own run: 150 epochs, a falling rate, a weight average, augmentation.
ORIGINAL = {
    "pixel_scale": "symmetric",
    "rotation": 20.0,
    "translation": 0.2,
    "lr_schedule": "exponential",
    "ema": 0.999,
    "batch_size": 120,
    "epochs": 150,
    "max_steps": 0,
}
WHOLE = {"kind": "random", "validation": 0.0}

SPACE = SearchSpace(
    question="How well does a network read MNIST after a thousand steps of 256 images?",
    data="mnist",
    model="cnn",
    fixed={
        "epochs": 5,
        "max_steps": 1000,
        "batch_size": 256,
        "convs_per_stage": 1,
        "padding": "none",
        "pool": "none",
        "norm": "before",
        "conv_bias": False,
        "head": "flatten",
        "hidden": "none",
    },
    search={
        "pixel_scale": choice("unit", "root", "symmetric", "raw"),
        "rotation": uniform(0.0, 20.0),
        "translation": uniform(0.0, 0.2),
        "scaling": uniform(0.0, 0.2),
        "gamma": uniform(0.0, 1.0),
        "filters": choice(
            "16-24-32-40-48-56-64-72-80-88",
            "32-64-96-128-160",
            "48-96-144-192",
            "32-48-64-80-96-112-128-144-160-176",
        ),
        "kernel": choice("3", "5", "7"),
        "output_norm": choice(False, True),
        "optimizer": choice("adam", "adamw", "sgd"),
        "lr": log_uniform(1e-4, 1e-1),
        "weight_decay": choice(0.0, 1e-4, 2e-2),
        "lr_schedule": choice("constant", "onecycle", "exponential"),
        "label_smoothing": choice(0.0, 0.05),
        "ema": choice(0.0, 0.98, 0.99),
    },
    baselines={"modelm3": MODELM3, "modelm5": MODELM5, "modelm7": MODELM7},
    published={
        "modelm3": Published(
            headline=0.99,
            really="one mini-batch of the training images; no test figure exists",
            values={},
            split=WHOLE,
            source="https://arxiv.org/abs/2008.10400",
        ),
        "modelm5": Published(
            headline=None,
            really="the original reports ensembles",
            values=ORIGINAL,
            split=WHOLE,
            source="https://arxiv.org/abs/2008.10400",
        ),
        "modelm7": Published(
            headline=None,
            really="the original reports ensembles",
            values=ORIGINAL,
            split=WHOLE,
            source="https://arxiv.org/abs/2008.10400",
        ),
    },
    starts={"slim": SLIM},
    max_parameters=3_000_000,
)
