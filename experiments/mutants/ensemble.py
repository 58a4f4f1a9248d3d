"""Guards of `hybrid_sim.ensemble` and `hybrid_sim.models`: which rows learn from which, exclusions, refusals."""

ENSEMBLE = "hybrid_sim/ensemble"
MODELS = "hybrid_sim/models"
ROWS = ["tests/test_learning_rows.py"]
SETTINGS = ["tests/test_ensemble.py::test_settings_that_mean_nothing_are_refused"]
CONFORMAL = ["tests/test_conformal.py::test_a_small_bucket_uses_the_threshold_of_all"]
COMPONENTS = [
    "tests/test_ablation.py::test_an_unknown_component_is_refused_with_the_nearest",
    "tests/test_ablation.py::test_a_component_or_a_single_member_can_be_left_out",
    "tests/test_ablation.py::test_components_hold_every_member_once",
]
BOOSTED = [
    "tests/test_boosted_levels.py::test_settings_are_checked",
    "tests/test_boosted_levels.py::test_what_it_cannot_learn_from_is_refused",
]
PATTERN = ["tests/test_boosted_levels.py::test_ratings_without_any_pattern_are_not_learned_from_their_own_statistics"]
FACTORIZATION = [
    "tests/test_factorization.py::test_settings_that_mean_nothing_are_refused",
    "tests/test_factorization.py::test_unknown_users_and_items_are_answered_from_the_other_side",
]
FOLD_IN = ["tests/test_fold_in.py::test_other_items_or_another_scale_are_refused"]
SURPRISE = [
    "tests/test_surprise_raters.py::test_divergence_is_an_error_and_not_silence",
    "tests/test_surprise_raters.py::test_undefined_similarity_is_explained",
    "tests/test_surprise_raters.py::test_nmf_refuses_negative_levels",
    "tests/test_surprise_raters.py::test_misspelt_raters_and_settings_are_errors",
    "tests/test_surprise_raters.py::test_empty_training_data_is_refused",
]
SIDE = ["tests/test_side.py"]
BIASES = [
    "tests/test_biases.py::test_settings_must_be_positive_numbers",
    "tests/test_biases.py::test_empty_training_data_is_refused",
]
RECORDED = ["tests/test_recorded.py::test_a_rating_off_the_scale_of_the_data_set_is_named"]

MUTANTS = [
    # which rows the combiner learns from
    (f"{ENSEMBLE}/combiner.py", "& ~of_new if code == WARM", "if code == WARM", ROWS),
    (f"{ENSEMBLE}/combiner.py", "np.isin(regime, (WARM, NEW)) & ~of_new", "(regime == WARM) & ~of_new", ROWS),
    (f"{ENSEMBLE}/combiner.py", "regime if new_users else np.where(regime == NEW, WARM, regime)", "regime", ROWS),
    (f"{ENSEMBLE}/combiner.py", "if len(rows) < MIN_ROWS:", "if len(rows) < 1:", ROWS),
    (f"{ENSEMBLE}/combiner.py", "self.boosted and name in BOOSTED", "self.boosted", ROWS),
    (
        f"{ENSEMBLE}/combiner.py",
        "training_rows(regime, of_new, code) & answered",
        "training_rows(regime, of_new, code)",
        ROWS,
    ),
    (f"{ENSEMBLE}/combiner.py", "learn(np.flatnonzero(fold != k))", "learn(np.arange(n_rows))", ROWS),
    (f"{ENSEMBLE}/combiner.py", "(shares > 0.5) | (shares == shares.max())", "shares > 0.5", ROWS),
    (f"{ENSEMBLE}/combiner.py", "np.where(gaps, others[:, None], means)", "np.nan_to_num(means)", ROWS),
    (f"{ENSEMBLE}/combiner.py", "np.where(np.isnan(others), _row_means(predictions.means), others)", "others", ROWS),
    (f"{ENSEMBLE}/combiner.py", "np.where(np.isnan(probs[:, :1]), average.probs, probs)", "probs", ROWS),
    # hold-outs and members
    (f"{ENSEMBLE}/out_of_fold.py", "member.fit(parts[plan])", "member.fit(dataset)", ROWS),
    (f"{ENSEMBLE}/out_of_fold.py", "copy.deepcopy(members[name])", "members[name]", ROWS),
    (
        f"{ENSEMBLE}/out_of_fold.py",
        "np.full(len(plan.held_rows), plan.of_new)",
        "np.full(len(plan.held_rows), False)",
        ROWS,
    ),
    (f"{MODELS}/hold_outs.py", "if len(plan.train_rows) and len(plan.held_rows)]", "]", ROWS),
    (f"{MODELS}/hold_outs.py", "if not usable:", "if False:", ROWS),
    (f"{MODELS}/hold_outs.py", " & (place >= n_kept[dataset.user])", "", ROWS),
    (f"{MODELS}/hold_outs.py", "chance if dataset.timestamp is None else dataset.timestamp", "chance", ROWS),
    (f"{MODELS}/hold_outs.py", "k >= n_warm + n_cold)", "False)", ROWS),
    (f"{MODELS}/hold_outs.py", "np.arange(k * size, (k + 1) * size)", "np.arange(size)", ROWS),
    # intervals
    (f"{ENSEMBLE}/ensemble.py", "np.where(cold, 1.0 / np.maximum(n_held[item], 1), 1.0)", "np.ones(len(item))", ROWS),
    (f"{ENSEMBLE}/ensemble.py", "~fitted.of_new", "np.ones_like(fitted.of_new)", ROWS),
    (f"{ENSEMBLE}/conformal.py", "answered = held.answered", "answered = np.ones(len(held), dtype=bool)", ROWS),
    (f"{ENSEMBLE}/conformal.py", "weights.sum() + weights.mean()", "weights.sum()", ROWS),
    (f"{ENSEMBLE}/conformal.py", "if len(reached) else np.inf", "if len(reached) else 0.0", ROWS),
    (f"{ENSEMBLE}/conformal.py", "rows if rows.sum() >= MIN_ROWS else np.ones_like(rows)", "rows", CONFORMAL),
    (f"{ENSEMBLE}/conformal.py", "np.where(missing, np.nan, low)", "low", ROWS),
    (f"{ENSEMBLE}/conformal.py", "np.where(missing, np.nan, high)", "high", ROWS),
    # opinions kept of the time when ratings were held out
    (f"{ENSEMBLE}/out_of_fold.py", "held.answered & np.isin(regime, kinds)", "held.answered", ROWS),
    (f"{MODELS}/recorded.py", "np.append(self.keys, -2)[rows] == keys", "rows >= 0", ROWS),
    # the correction
    (f"{ENSEMBLE}/correction.py", "if both.sum() < MIN_ROWS:", "if both.sum() < 2:", ROWS),
    (f"{ENSEMBLE}/correction.py", "both = llm.answered & statistical.answered", "both = statistical.answered", ROWS),
    (f"{ENSEMBLE}/correction.py", "nnls(np.vstack(", "np.linalg.lstsq(np.vstack(", ROWS),
    (f"{ENSEMBLE}/correction.py", "rows = shift != 0.0", "rows = np.ones(len(shift), dtype=bool)", ROWS),
    (f"{ENSEMBLE}/correction.py", "part != k, part == k", "part >= 0, part == k", ROWS),
    (f"{ENSEMBLE}/correction.py", "held_out.item if new_items else held_out.user", "held_out.user", ROWS),
    (f"{ENSEMBLE}/correction.py", "answers[panel_places(pairs.take(answers)) < N_PANEL]", "answers", ROWS),
    (f"{ENSEMBLE}/correction.py", '.drop_duplicates(["user", "item"])', "", ROWS),
    # refusals
    (f"{ENSEMBLE}/ensemble.py", "if not self.members:", "if False:", SETTINGS),
    (f"{ENSEMBLE}/ensemble.py", "            if name not in self.members:", "            if False:", SETTINGS),
    (f"{ENSEMBLE}/ensemble.py", "or self.n_warm == 1 or", "or", SETTINGS),
    (f"{ENSEMBLE}/ensemble.py", "or self.n_warm + self.n_cold == 0:", "or False:", SETTINGS),
    (f"{ENSEMBLE}/ensemble.py", "if not 0.0 < self.cold_share < 1.0:", "if False:", SETTINGS),
    (f"{ENSEMBLE}/components.py", "if name not in names:", "if False:", COMPONENTS),
    (f"{ENSEMBLE}/components.py", "if members and not left:", "if False:", COMPONENTS),
    (f"{ENSEMBLE}/components.py", "if not member.default and member.name not in further:", "if False:", COMPONENTS),
    # raters: unknown users and items, settings, data that cannot be learned from
    (f"{MODELS}/training.py", "(rows >= 0) & rated[rows]", "rated[rows]", ROWS),
    (f"{MODELS}/training.py", "np.isfinite(value) and value > 0", "value > 0", BIASES),
    (f"{MODELS}/training.py", "np.isfinite(value) and value > 0", "np.isfinite(value)", BIASES),
    (f"{MODELS}/training.py", "if len(dataset) == 0:", "if False:", BIASES),
    (f"{MODELS}/training.py", "isinstance(seed, int) and 0 <= seed < 2**32", "True", SURPRISE),
    (f"{MODELS}/biases.py", "np.where(user_known | item_known, mean, np.nan)", "mean", ROWS),
    (f"{MODELS}/means.py", "np.where(n_ratings > 0, shrunk, np.nan)", "shrunk", ROWS),
    (f"{MODELS}/means.py", "np.where(rows[:, None] >= 0, self.probs_[rows], np.nan)", "self.probs_[rows]", ROWS),
    (f"{MODELS}/surprise_raters.py", "np.where(rows >= 0, place[rows], -1)", "place[rows]", ROWS),
    (f"{MODELS}/surprise_raters.py", "np.where((user >= 0) | (item >= 0), mean, np.nan)", "mean", ROWS),
    (
        f"{MODELS}/surprise_raters.py",
        "if not all(np.isfinite(array).all() for array in arrays):",
        "if False:",
        SURPRISE,
    ),
    (f"{MODELS}/surprise_raters.py", "np.where(both, super().expect(pairs), np.nan)", "super().expect(pairs)", ROWS),
    (f"{MODELS}/surprise_raters.py", "if dataset.scale.low < 0:", "if False:", SURPRISE),
    (f"{MODELS}/surprise_raters.py", "except ZeroDivisionError as error:", "except ImportError as error:", SURPRISE),
    (f"{MODELS}/surprise_raters.py", "if self.similarity not in SIMILARITIES:", "if False:", SURPRISE),
    (f"{MODELS}/registry.py", "if setting not in self.setting_names:", "if False:", SURPRISE),
    (f"{MODELS}/recorded.py", "if len(wrong):", "if False:", RECORDED),
    (f"{MODELS}/recorded.py", "known = encoded.known", "known = np.ones(len(encoded), dtype=bool)", ROWS),
    (
        "hybrid_sim/core/types.py",
        "np.where(self.known, self.user * n_items + self.item, -1)",
        "self.user * n_items + self.item",
        ROWS,
    ),
    (f"{MODELS}/factorization.py", "if self.n_iterations - self.burn_in < self.n_draws:", "if False:", FACTORIZATION),
    (
        f"{MODELS}/factorization.py",
        "known = (pairs.user >= 0) | (pairs.item >= 0)",
        "known = pairs.item >= -1",
        FACTORIZATION,
    ),
    (f"{MODELS}/fold_in.py", "if dataset.scale != model.scale_:", "if False:", FOLD_IN),
    (f"{MODELS}/fold_in.py", "if len(fitted) != len(given):", "if False:", FOLD_IN),
    (f"{MODELS}/fold_in.py", "if was != now:", "if False:", FOLD_IN),
    (f"{MODELS}/boosted.py", "if len(dataset) == 1:", "if False:", BOOSTED),
    (f"{MODELS}/boosted.py", "if self.scale_.n_levels > MAX_LEVELS:", "if False:", BOOSTED),
    (f"{MODELS}/boosted.py", "if getattr(self, name) < least:", "if False:", BOOSTED),
    (f"{MODELS}/boosted.py", "fit(dataset.take(plan.train_rows), self", "fit(dataset, self", PATTERN),
    (f"{MODELS}/features.py", "counts[counts >= MIN_MEMBERS]", "counts", SIDE),
    (f"{MODELS}/features.py", "and len(counts) <= len(frame) / 2 + 20", "", SIDE),
    (f"{MODELS}/features.py", "elif name not in TEXT_COLUMNS:", "else:", SIDE),
    (f"{MODELS}/features.py", "np.where(np.isfinite(values), values, np.nan)", "values", SIDE),
]
