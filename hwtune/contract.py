"""What the files of a study hold at least, so that a damaged or foreign one is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)
Needs = Mapping[str, type | tuple[type, ...]]  # by names, one within the other, joined by dots
STUDY: Needs = {
    "format": int,
    "study": str,
    "status": str,
    "started": str,
    "command": str,
    "seconds": (int, float, type(None)),
    "space": dict,
    "space.question": str,
    "space.data": str,
    "space.model": str,
    "space.search": dict,
    "space.fixed": dict,
    "space.baselines": dict,
    "data": dict,
    "data.name": str,
    "data.sha256": str,
    "data.images": int,
    "data.side": int,
    "data.classes": list,
    "split": dict,
    "split.kind": str,
    "split.seed": int,
    "split.validation": NUMBER,
    "split.test": NUMBER,
    "split.counts": dict,
    "split.counts.train": int,
    "split.counts.validation": int,
    "split.counts.test": int,
    "hardware": dict,
    "versions": dict,
}
SEARCH: Needs = {  # of a study that is no baseline's training
    "budget": dict,
    "budget.epochs": int,
    "sampler": dict,
    "sampler.name": str,
    "scheduler": dict,
    "scheduler.name": str,
    "seed": int,
}
RESUMED: Needs = {  # beside that, of a search that goes on
    "objectives": list,
    "disk_limit": int,
    "retraining": dict,
    "runs": list,
}
RETRAIN: Needs = {"configurations": list, "test_openings": list}
TESTED: Needs = {
    "name": str,
    "baseline": str,
    "config": dict,
    "parameters": int,
    "seeds": list,
    "test_images": int,
    "test_accuracy": dict,
    "test_accuracy.mean": NUMBER,
    "test_accuracy.low": NUMBER,
    "test_accuracy.high": NUMBER,
    "test_accuracy.per_seed": list,
    "per_class": dict,
    "confusion": list,
    "misread": list,
}


def wrong(content: Any, needs: Needs) -> str:
    """Return what a JSON object lacks or has of another type, or ""."""
    for names, wanted in needs.items():
        value = content
        for name in names.split("."):
            if not isinstance(value, dict) or name not in value:
                return f"it has no {names}"
            value = value[name]
        if not isinstance(value, wanted) or isinstance(value, bool):
            return f"{names} is {str(value)[:50]!r}"
    return ""


def wrong_in_study(content: Any) -> str:
    """Return what is wrong with the content of a `study.json`, or ""."""
    if found := wrong(content, STUDY):
        return found
    return "" if content.get("baseline") else wrong(content, SEARCH)


def wrong_in_retrain(content: Any) -> str:
    """Return what is wrong with the content of a `retrain.json`, or ""."""
    if found := wrong(content, RETRAIN):
        return found
    each = (wrong(entry, TESTED) for entry in content["configurations"])
    return next((f"of what was tested, {found}" for found in each if found), "")
