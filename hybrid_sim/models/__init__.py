"""The statistical raters, a file each: `make_rater("svd", n_factors=50)`."""

from hybrid_sim.models.registry import RATERS, make_rater

__all__ = ["RATERS", "make_rater"]
