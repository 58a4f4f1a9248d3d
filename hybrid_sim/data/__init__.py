"""Data in: known data sets, any table of ratings, texts of items, splits and the synthetic world."""

from hybrid_sim.core.texts import item_texts
from hybrid_sim.data.sources import load
from hybrid_sim.data.tables import ColumnMap, read_dataset

__all__ = ["ColumnMap", "item_texts", "load", "read_dataset"]
