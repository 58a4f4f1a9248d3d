"""The default members of the ensemble: each is there because leaving it out costs accuracy (see experiments)."""

from __future__ import annotations

from hybrid_sim.core.embedder import Embedder
from hybrid_sim.core.rater import Rater
from hybrid_sim.core.seeding import derive_seed
from hybrid_sim.core.types import RatingScale
from hybrid_sim.models import make_rater
from hybrid_sim.models.factorization import MAX_ORDINAL_LEVELS

SHAPES = ("levels", "levels_content")
"""Members whose whole distributions are used, not only their expected ratings."""


def default_members(scale: RatingScale, embedder: Embedder, seed: int) -> dict[str, Rater]:
    """Raters that are not fitted yet, by name.

    Four factorizations carry most of the weight: two Gaussian chains, whose average varies less, and two ordinal ones
    (where the scale has few enough levels), one of which knows nothing of exposure and so can speak about new items.
    The neighbours' cosine similarity is undefined between ratings of zero: such scales use squared differences.
    """
    response = "ordinal" if scale.n_levels <= MAX_ORDINAL_LEVELS else "gaussian"
    seeds = [derive_seed(seed, "factorization", k) % 2**31 for k in range(4)]
    return {
        "biases": make_rater("biases"),
        "knn": make_rater("knn", similarity="msd" if 0.0 in scale.levels else "cosine"),
        "svd": make_rater("svd", seed=derive_seed(seed, "svd") % 2**31),
        "neighbours": make_rater("neighbours", embedder=embedder),
        "facets": make_rater("facets", embedder=embedder),
        "content_gp": make_rater("content_gp", embedder=embedder),
        "kernel_gp": make_rater("kernel_gp", embedder=embedder),
        "factorization_1": make_rater("factorization", embedder=embedder, seed=seeds[0]),
        "factorization_2": make_rater("factorization", embedder=embedder, seed=seeds[1]),
        "levels": make_rater("factorization", embedder=embedder, response=response, seed=seeds[2]),
        "levels_content": make_rater(
            "factorization", embedder=embedder, response=response, exposure=False, seed=seeds[3]
        ),
    }
