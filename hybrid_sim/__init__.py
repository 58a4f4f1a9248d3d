"""Hybrid user simulation: a calibrated ensemble of recommenders, corrected by a language model where it helps.

    import hybrid_sim as hs

    data = hs.load_dataset("ml-100k")                          # or hs.read_dataset("ratings.csv", items="items.csv")
    simulator = hs.fit(data)                                   # simulator.save("model"), hs.load("model")
    simulator.predict(["17", "18"], ["50", "50"]).to_frame()   # or a DataFrame with user_id and item_id
    run = hs.Run("run", data, model="gpt-4o-mini")             # a simulation with a language model, kept in a folder
    run.simulate(hs.cross_pairs(["17", "18"], ["50", "51"]), budget="1usd").to_frame()

`hs.bench`, `hs.ablate` and `hs.validate` evaluate, `hs.explain` explains predictions, `hs.forecast_new_items` predicts
items that nobody has rated yet, `hs.write_report` makes an HTML page of any of these results. Every name is imported
when it is first used, so `import hybrid_sim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid_sim.core.bars import show_progress
    from hybrid_sim.core.dataset import Dataset
    from hybrid_sim.core.errors import HybridSimError
    from hybrid_sim.core.fit_cache import caching_fits
    from hybrid_sim.core.rater import Rater
    from hybrid_sim.core.types import Pairs, RatingDistribution, RatingScale
    from hybrid_sim.data.sources import load as load_dataset
    from hybrid_sim.data.tables import ColumnMap, read_dataset
    from hybrid_sim.data.world import make_world
    from hybrid_sim.evaluation.ablation import ablate
    from hybrid_sim.evaluation.bench import bench
    from hybrid_sim.evaluation.validity.validate import validate
    from hybrid_sim.models.registry import make_rater
    from hybrid_sim.new_items.run import NewItemRun, forecast_new_items
    from hybrid_sim.report.results import write_report
    from hybrid_sim.simulation.explain import explain
    from hybrid_sim.simulation.session import Run
    from hybrid_sim.simulation.simulate import Simulation, simulate
    from hybrid_sim.simulation.simulator import Prediction, Simulator, cross_pairs, fit, load

    __version__: str

__all__ = [
    "ColumnMap", "Dataset", "HybridSimError", "NewItemRun", "Pairs", "Prediction", "Rater", "RatingDistribution",
    "RatingScale", "Run", "Simulation", "Simulator", "__version__", "ablate", "bench", "caching_fits", "cross_pairs",
    "explain", "fit", "forecast_new_items", "load", "load_dataset", "make_rater", "make_world", "read_dataset",
    "show_progress", "simulate", "validate", "write_report",
]  # fmt: skip

_HOMES = {
    "core.bars": ("show_progress",),
    "core.dataset": ("Dataset",),
    "core.errors": ("HybridSimError",),
    "core.fit_cache": ("caching_fits",),
    "core.rater": ("Rater",),
    "core.types": ("Pairs", "RatingDistribution", "RatingScale"),
    "data.sources": ("load_dataset",),
    "data.tables": ("ColumnMap", "read_dataset"),
    "data.world": ("make_world",),
    "evaluation.ablation": ("ablate",),
    "evaluation.bench": ("bench",),
    "evaluation.validity.validate": ("validate",),
    "models.registry": ("make_rater",),
    "new_items.run": ("NewItemRun", "forecast_new_items"),
    "report.results": ("write_report",),
    "simulation.explain": ("explain",),
    "simulation.session": ("Run",),
    "simulation.simulate": ("Simulation", "simulate"),
    "simulation.simulator": ("Prediction", "Simulator", "cross_pairs", "fit", "load"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {"load_dataset": "load"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("hybrid-sim")
    elif name in _HOME_OF:
        value = getattr(import_module(f"hybrid_sim.{_HOME_OF[name]}"), _RENAMED.get(name, name))
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
