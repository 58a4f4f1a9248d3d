"""An ensemble hybrid user simulator with a statistical fallback.

The names below are imported when they are first used, so that `import hybrid_sim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_sim.data.dataset import Dataset
    from hybrid_sim.data.sources import load as load_dataset
    from hybrid_sim.data.table import ColumnMap, read_dataset
    from hybrid_sim.data.world import make_world
    from hybrid_sim.errors import HybridSimError
    from hybrid_sim.models import make_rater
    from hybrid_sim.rater import Rater
    from hybrid_sim.simulator import Prediction, Simulator
    from hybrid_sim.types import Pairs, RatingDistribution, RatingScale

__all__ = [
    "ColumnMap",
    "Dataset",
    "HybridSimError",
    "Pairs",
    "Prediction",
    "Rater",
    "RatingDistribution",
    "RatingScale",
    "Simulator",
    "__version__",
    "load_dataset",
    "make_rater",
    "make_world",
    "read_dataset",
]

_HOMES = {
    "ColumnMap": "hybrid_sim.data.table:ColumnMap",
    "Dataset": "hybrid_sim.data.dataset:Dataset",
    "HybridSimError": "hybrid_sim.errors:HybridSimError",
    "Pairs": "hybrid_sim.types:Pairs",
    "Prediction": "hybrid_sim.simulator:Prediction",
    "Rater": "hybrid_sim.rater:Rater",
    "RatingDistribution": "hybrid_sim.types:RatingDistribution",
    "RatingScale": "hybrid_sim.types:RatingScale",
    "Simulator": "hybrid_sim.simulator:Simulator",
    "load_dataset": "hybrid_sim.data.sources:load",
    "make_rater": "hybrid_sim.models:make_rater",
    "make_world": "hybrid_sim.data.world:make_world",
    "read_dataset": "hybrid_sim.data.table:read_dataset",
}

__version__ = version("hybrid-sim")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
