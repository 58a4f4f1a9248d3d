"""Data in: known data sets, any table of ratings, texts of items, splits and the synthetic world."""

from hybrid_sim.data.sources import load
from hybrid_sim.data.table import ColumnMap, read_dataset
from hybrid_sim.data.text import item_texts

__all__ = ["ColumnMap", "item_texts", "load", "read_dataset"]
