"""An ensemble hybrid user simulator with a statistical fallback.

The names below are imported when they are first used, so that `import hybrid_sim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.core.errors import HybridSimError
    from hybrid_sim.core.rater import Rater
    from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
    from hybrid_sim.data.sources import load as load_dataset
    from hybrid_sim.data.tables import ColumnMap, read_dataset
    from hybrid_sim.data.world import make_world
    from hybrid_sim.models import make_rater
    from hybrid_sim.simulation.simulator import Prediction, Simulator

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
    "ColumnMap": "hybrid_sim.data.tables:ColumnMap",
    "Dataset": "hybrid_sim.core.dataset:Dataset",
    "HybridSimError": "hybrid_sim.core.errors:HybridSimError",
    "Pairs": "hybrid_sim.core.types:Pairs",
    "Prediction": "hybrid_sim.simulation.simulator:Prediction",
    "Rater": "hybrid_sim.core.rater:Rater",
    "RatingDistribution": "hybrid_sim.core.types:RatingDistribution",
    "RatingScale": "hybrid_sim.core.types:RatingScale",
    "Simulator": "hybrid_sim.simulation.simulator:Simulator",
    "load_dataset": "hybrid_sim.data.sources:load",
    "make_rater": "hybrid_sim.models:make_rater",
    "make_world": "hybrid_sim.data.world:make_world",
    "read_dataset": "hybrid_sim.data.tables:read_dataset",
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
