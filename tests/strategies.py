"""Hypothesis strategies: points of a search space."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from hwtune.space import SearchSpace


def values(distribution: BaseDistribution) -> st.SearchStrategy[Any]:
    """Draw a value of an Optuna distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return st.sampled_from(distribution.choices)
    kind = st.integers if isinstance(distribution, IntDistribution) else st.floats
    return kind(distribution.low, distribution.high)  # type: ignore[attr-defined, operator]


def points(space: SearchSpace) -> st.SearchStrategy[dict[str, Any]]:
    """Draw a point of a space."""
    return st.fixed_dictionaries({key: values(d) for key, d in space.search.items()})
