"""Guards of the index, the raters that read texts, the embedders and the profiles."""

INDEX, PRODUCTS = "hybrid_sim/retrieval/index.py", "hybrid_sim/retrieval/products.py"
TEXT_RATERS = "hybrid_sim/retrieval/text_raters.py"
GP, EVIDENCE = "hybrid_sim/retrieval/content_gp.py", "hybrid_sim/retrieval/evidence.py"
RATING = "hybrid_sim/prompts/rating.py"
EMBEDDER, MINILM, TFIDF = (f"hybrid_sim/retrieval/{name}.py" for name in ("embedder", "minilm", "tfidf"))
TIMELINES, RECORDED = "hybrid_sim/profiles/timelines.py", "hybrid_sim/profiles/recorded.py"

ABOUT_INDEX, ABOUT_RATERS = ["tests/test_index.py"], ["tests/test_retrieval_raters.py"]
ABOUT_PROFILES, ABOUT_EVIDENCE = ["tests/test_profile_files.py"], ["tests/test_evidence.py"]
ABOUT_EMBEDDERS, ABOUT_RECORDED = ["tests/test_embedder.py"], ["tests/test_profile_checks.py"]
ABOUT_SHOWN = ["tests/test_shown_history.py"]

MUTANTS = [
    (INDEX, "np.flatnonzero(self.vectors_.any(axis=1)).astype(np.int64)", "np.arange(len(self.vectors_))", ABOUT_INDEX),
    (
        INDEX,
        "if self.exact or (known < 0).any() or not np.array_equal(vectors[known], self.vectors_[self.rows_]):",
        "if self.exact:",
        ABOUT_INDEX,
    ),
    (INDEX, "if queries.shape[1] != dim or k < 1:", "if k < 1:", ABOUT_INDEX),
    (INDEX, "if queries.shape[1] != dim or k < 1:", "if queries.shape[1] != dim:", ABOUT_INDEX),
    (
        INDEX,
        "rows = np.full((len(queries), k), -1, dtype=np.int64)",
        "rows = np.zeros((len(queries), k), dtype=np.int64)",
        ABOUT_INDEX,
    ),
    (
        INDEX,
        "np.flatnonzero(queries.any(axis=1)), min(k, len(self))",
        "np.arange(len(queries)), min(k, len(self))",
        ABOUT_INDEX,
    ),
    (INDEX, "    if len(bad):", "    if False:", ABOUT_INDEX),
    (INDEX, "if vectors.ndim != 2 or vectors.shape[1] == 0:", "if False:", ABOUT_INDEX),
    (
        INDEX,
        "is_self = nearest.rows == profiles[:, None]",
        "is_self = np.zeros(nearest.rows.shape, dtype=bool)",
        ABOUT_PROFILES,
    ),
    (INDEX, "has_profile = (profiles >= 0) & (", "has_profile = (", ABOUT_PROFILES),
    (
        INDEX,
        "np.where(has_profile & items.any(axis=1), scores, np.nan)",
        "np.where(has_profile, scores, np.nan)",
        ABOUT_PROFILES,
    ),
    (INDEX, "own = np.where((profiles >= 0)[:, None], ", "own = np.where((profiles >= -1)[:, None], ", ABOUT_PROFILES),
    (INDEX, "where=lengths > 1e-6", "where=lengths > -1", ABOUT_PROFILES),
    (
        PRODUCTS,
        "np.flatnonzero(~(products[:, -1] > proposed[:, -1] + rounding))",
        "np.zeros(0, dtype=np.int64)",
        ABOUT_INDEX,
    ),
    (
        TEXT_RATERS,
        "np.where(rated[places] == items[:, None], 0.0, np.maximum(cosines, 0.0))",
        "np.maximum(cosines, 0.0)",
        ABOUT_RATERS,
    ),
    (TEXT_RATERS, "| (places.shape[1] == len(rated))", "| (places.shape[1] > 0)", ABOUT_RATERS),
    (TEXT_RATERS, "(pairs.item >= 0) & self.has_text_[pairs.item]", "self.has_text_[pairs.item]", ABOUT_RATERS),
    (TEXT_RATERS, "(pairs.item >= 0) & self.has_text_[pairs.item]", "pairs.item >= 0", ABOUT_RATERS),
    (
        TEXT_RATERS,
        "require_positive(self, k=self.k, shrink=self.shrink)",
        "require_positive(self, shrink=1)",
        ABOUT_RATERS,
    ),
    (TEXT_RATERS, "known[known] &= self.has_text_[pairs.item[known]]", "pass", ABOUT_RATERS),
    (TEXT_RATERS, "require_positive(self, shrink=self.shrink)", "pass", ABOUT_RATERS),
    (GP, 'or (name == "noise" and value == 0)', "", ABOUT_RATERS),
    (GP, "if self.text_dim < 1:", "if False:", ABOUT_RATERS),
    (GP, "is_known(rated, pairs.user) & (pairs.item >= 0)", "is_known(rated, pairs.user)", ABOUT_RATERS),
    (EVIDENCE, "(effect >= self._least) & (by_content > 0)", "by_content > 0", ABOUT_EVIDENCE),
    (EVIDENCE, "np.flatnonzero(sign * influences.surprise > 0)", "np.arange(len(influences.surprise))", ABOUT_EVIDENCE),
    (
        TEXT_RATERS,
        "nearest.found & (nearest.rows != np.arange(dataset.n_users)[:, None])",
        "nearest.found",
        ABOUT_RATERS,
    ),
    (EMBEDDER, "if vector and _checksum(key, vector) == checksum", "if vector", ABOUT_EMBEDDERS),
    (MINILM, "if digest != weights_sha256:", "if False:", ABOUT_EMBEDDERS),
    (MINILM, "    if missing:", "    if False:", ABOUT_EMBEDDERS),
    (TFIDF, "if not self.texts_digest_:", "if False:", ABOUT_EMBEDDERS),
    (TFIDF, "if digest != self.texts_digest_:", "if not self.texts_digest_:", ABOUT_EMBEDDERS),
    (
        TIMELINES,
        "if timeline.latest is not None and timeline.latest.version >= version.version:",
        "if False:",
        ABOUT_PROFILES,
    ),
    (RECORDED, "if user in timelines:", "if False:", ABOUT_RECORDED),
    (RECORDED, "if not summary.strip():", "if False:", ABOUT_RECORDED),
    (RATING, "if index is None:", "if False:", ABOUT_SHOWN),
    (RATING, "np.flatnonzero(~np.isin(history.item, items))", "np.arange(len(history))", ABOUT_SHOWN),
]
