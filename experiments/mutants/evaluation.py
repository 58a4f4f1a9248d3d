"""Guards of `hybrid_sim.evaluation`: rows compared, groups resampled, answers reused, refusals, open verdicts."""

EVALUATION = "hybrid_sim/evaluation"
VALIDITY = f"{EVALUATION}/validity"
ABLATION = f"{EVALUATION}/ablation"
FAIR = "tests/test_fair_comparisons.py::test_"
COPIES = [f"{FAIR}a_fold_that_the_llm_did_not_rate_is_scored_but_enters_no_comparison"]
CONTROL = [f"{FAIR}the_control_shuffles_ratings_of_one_fold_among_themselves"]
WITHIN = [f"{FAIR}the_control_shuffles_the_ratings_of_a_user_among_themselves"]
NEW_ITEMS = [f"{FAIR}on_new_items_a_correction_is_learned_from_other_items"]
FALLBACK = [f"{FAIR}pairs_that_a_model_knows_nothing_of_are_not_counted_as_its_answers"]
ITEMS = [f"{FAIR}where_items_are_held_out_items_are_resampled"]
UNIT = [f"{FAIR}an_error_shared_by_all_ratings_of_an_item_widens_the_interval_over_items"]
BOOTSTRAP = [
    f"{FAIR}whole_groups_are_drawn_and_one_group_alone_has_no_interval",
    f"{FAIR}a_resample_that_misses_a_fold_is_the_mean_over_the_others",
    f"{FAIR}groups_without_rows_are_never_drawn",
    "tests/test_validity.py::test_the_first_row_of_sums_is_the_data_and_absent_groups_are_never_drawn",
]
COLD = [
    f"{FAIR}neither_side_of_a_cold_pair_is_learned_from",
    f"{FAIR}the_first_ratings_of_a_new_user_are_never_tested",
    f"{FAIR}only_rated_items_and_users_are_dealt_into_folds",
]
SPLITS = [
    "tests/test_splits.py::test_impossible_numbers_of_folds_are_refused",
    "tests/test_splits.py::test_without_times_orders_by_time_are_refused_not_faked",
    "tests/test_splits.py::test_keep_last_takes_the_latest_and_ties_keep_their_order",
    "tests/test_splits.py::test_users_out_knows_the_earliest_ratings",
]
PROTOCOLS = [
    f"{FAIR}a_protocol_that_needs_times_refuses_data_without_them_by_its_name",
    "tests/test_bench.py::test_data_without_times_is_refused_or_said",
    "tests/test_bench.py::test_a_fold_that_does_not_exist",
    "tests/test_bench.py::test_a_fold_that_holds_nothing_out_is_refused",
]
MODELS = ["tests/test_bench.py::test_models_are_chosen_by_name"]
SHARED = ["tests/test_bench.py::test_shared_rows_are_what_both_were_scored_on"]
ABSTAIN = ["tests/test_evaluate.py::test_rows_that_abstain_are_refused_or_counted"]
SAME_ROWS = ["tests/test_evaluate.py::test_models_on_different_rows_are_not_compared"]
METRICS = [
    "tests/test_metrics.py::test_nothing_is_skipped_in_silence",
    "tests/test_metrics.py::test_pearson_of_a_constant_is_undefined",
    "tests/test_metrics.py::test_log_loss_equals_the_reference_and_has_a_floor",
    "tests/test_metrics.py::test_within_user_sd_leaves_out_users_with_one_rating",
]
COMPARE = [
    f"{FAIR}benchmarks_on_other_folds_are_not_compared",
    "tests/test_compare.py::test_what_cannot_be_compared_is_refused",
    "tests/test_compare.py::test_only_pairs_that_both_have_are_compared",
    "tests/test_compare.py::test_neither_a_distance_nor_an_interval_of_few_users_is_a_finding",
    "tests/test_compare.py::test_two_benchmarks_are_compared_where_they_share_model_and_folds",
]
GROUPS = [
    f"{FAIR}groups_of_few_ratings_or_of_few_users_are_not_judged",
    f"{FAIR}the_worst_of_many_groups_is_not_judged_by_the_interval_of_one",
]
DRIFT = [f"{FAIR}drift_is_not_judged_by_small_fifths"]
RECALL = [
    f"{FAIR}recall_is_not_judged_by_few_answers",
    f"{FAIR}only_pairs_answered_with_both_titles_show_recall",
    f"{FAIR}an_invented_title_is_that_of_no_film_in_the_data",
]
RANKING = [f"{FAIR}few_recommenders_or_users_say_nothing_of_rankings"]
FEW = [f"{FAIR}users_with_few_ratings_have_no_histogram_and_no_mean_of_their_own"]
JUDGE = [
    "tests/test_validity.py::test_a_verdict_is_where_its_interval_lies",
    "tests/test_validity.py::test_thresholds_in_rating_units_are_a_part_of_the_scale_and_have_a_reason_and_a_unit",
    "tests/test_validity.py::test_of_a_few_users_nothing_is_told",
]
EVIDENCE = [f"{FAIR}evidence_on_new_items_resamples_items"]
PICKS = [
    f"{FAIR}items_called_not_rated_were_rated_neither_in_training_nor_in_the_held_out_part",
    f"{FAIR}a_user_with_fewer_disliked_items_than_others_to_pick_from_is_left_out",
]
SOURCES = [
    f"{FAIR}a_table_that_holds_the_truth_or_speaks_of_few_pairs_is_refused",
    f"{FAIR}held_out_ratings_that_are_training_ratings_are_refused",
    f"{FAIR}a_run_that_learned_from_other_data_or_holds_no_distribution_is_refused",
    f"{FAIR}a_recording_about_other_pairs_corrects_nothing",
]
WHOLE = ["tests/test_ablation.py::test_all_components_answer_as_the_simulator_does"]
APART = [f"{FAIR}the_whole_ensemble_taken_apart_answers_as_the_simulator"]
BY_ITEM = [f"{FAIR}an_ablation_on_new_items_sums_by_item_and_learns_from_other_items"]
NO_PROFILE = ["tests/test_ablation.py::test_profiles_of_which_nothing_is_known_cannot_be_left_out"]
READ = ["tests/test_ablation.py::test_profiles_that_an_llm_read_are_left_out_with_ratings_of_a_run_without_them"]
SWITCHED = ["tests/test_ablation.py::test_what_cannot_be_switched_is_refused"]

MUTANTS = [
    # a copied answer enters no comparison; the control; what is learned from which items
    (f"{EVALUATION}/bench.py", "hybrid, llm, fold), compared=recorded)", "hybrid, llm, fold), compared=True)", COPIES),
    (f"{EVALUATION}/bench.py", "shuffled, fold), compared=recorded)", "shuffled, fold), compared=True)", COPIES),
    (f"{EVALUATION}/bench.py", "if scored.compared:", "if True:", COPIES),
    (
        f"{EVALUATION}/bench.py",
        "shuffle_within_users(_of_fold(recording, fold)",
        "shuffle_within_users((recording)",
        CONTROL,
    ),
    (
        "hybrid_sim/data/recordings.py",
        "permute_within_groups(recording.user_ids,",
        "permute_within_groups(recording.ratings * 0,",
        WITHIN,
    ),
    (f"{ABLATION}/scoring.py", "fold.held_out.user[rows]", "0 * rows", WITHIN),
    (f"{EVALUATION}/bench.py", 'new_items = fold.groups == "items"', "new_items = False", NEW_ITEMS),
    (f"{ABLATION}/scoring.py", 'new_items = self.groups == "items"', "new_items = False", BY_ITEM),
    (f"{VALIDITY}/inputs.py", 'new_items = groups == "items"', "new_items = False", SOURCES),
    # abstentions are no answers
    (f"{EVALUATION}/bench.py", "int((~distribution.answered).sum())", "0", FALLBACK),
    (f"{EVALUATION}/bench.py", "int((got.source != SOURCES[-1]).sum())", "0", FALLBACK),
    (
        f"{EVALUATION}/bench.py",
        "of_model.answered() if of_model.model == LLM else of_model",
        "of_model.answered()",
        ["tests/test_evaluate.py::test_a_model_that_abstains_ends_a_benchmark"],
    ),
    (f"{EVALUATION}/scores.py", "int((~rows).sum())", "0", ABSTAIN),
    (f"{EVALUATION}/metrics.py", "if silent.any():", "if False:", METRICS),
    (f"{EVALUATION}/metrics.py", "        if bad.any():", "        if False:", METRICS),
    (f"{EVALUATION}/metrics.py", "if not len(arrays[0]):", "if False:", METRICS),
    (
        f"{EVALUATION}/metrics.py",
        "np.maximum(distribution.prob_of(truth), PROBABILITY_FLOOR)",
        "distribution.prob_of(truth)",
        METRICS,
    ),
    (f"{EVALUATION}/metrics.py", "<= 1e-12 * max(1.0", "< 0 * max(1.0", METRICS),
    (f"{EVALUATION}/metrics.py", "several = n > 1", "several = n > 0", METRICS),
    # equal rows, and what is resampled
    (f"{EVALUATION}/scores.py", "if not _same_rows(a, b):", "if False:", SAME_ROWS),
    (f"{EVALUATION}/scores.py", "x.take(np.isin(_pair_keys(x), _pair_keys(y)))", "x", SHARED),
    (f"{EVALUATION}/scores.py", "y.take(np.isin(_pair_keys(y), _pair_keys(x)))", "y", SHARED),
    (f"{EVALUATION}/scores.py", 'part.user if groups == "users" else part.item', "part.user", UNIT),
    (f"{EVALUATION}/bench.py", ", metric, protocol.groups, seed", ", metric, seed", ITEMS),
    (
        f"{EVALUATION}/bench.py",
        "rmse_interval(losses[name], protocol.groups,",
        "rmse_interval(losses[name],",
        ITEMS,
    ),
    (f"{EVALUATION}/protocols.py", 'a fifth per fold", groups="items")', 'a fifth per fold")', ITEMS),
    (f"{EVALUATION}/protocols.py", 'same for everybody", groups="items")', 'same for everybody")', ITEMS),
    (
        f"{EVALUATION}/bootstrap.py",
        "= np.unique(groups, return_inverse=True)",
        "= np.unique(np.arange(len(groups)), return_inverse=True)",
        BOOTSTRAP,
    ),
    (f"{EVALUATION}/bootstrap.py", "n_boot if n_groups > 1 else 0", "n_boot", BOOTSTRAP),
    (f"{EVALUATION}/bootstrap.py", "/ seen.sum(axis=0)", "/ len(seen)", BOOTSTRAP),
    (f"{EVALUATION}/bootstrap.py", "sums[:, sums[:, :, -1].any(axis=0)]", "sums", BOOTSTRAP),
    (f"{EVALUATION}/bootstrap.py", "np.unique(self.present)", "np.arange(self.n_groups)", BOOTSTRAP),
    (
        f"{VALIDITY}/inputs.py",
        'self.held_out.user if self.groups == "users" else self.held_out.item',
        "self.held_out.user",
        EVIDENCE,
    ),
    (f"{ABLATION}/scoring.py", 'by_user = self.groups == "users"', "by_user = True", BY_ITEM),
    # folds: what is trained on, tested, refused
    (
        f"{EVALUATION}/splits.py",
        "np.flatnonzero(~cold_user & ~cold_item)",
        "np.flatnonzero(~(cold_user & cold_item))",
        COLD,
    ),
    (f"{EVALUATION}/splits.py", "np.flatnonzero(cold_user & cold_item)", "np.flatnonzero(cold_user | cold_item)", COLD),
    (f"{EVALUATION}/splits.py", "place >= max(known, reserved)", "place >= known", COLD),
    (f"{EVALUATION}/splits.py", "rated = np.flatnonzero(counts)", "rated = np.arange(len(counts))", COLD),
    (f"{EVALUATION}/splits.py", "if not 2 <= n_folds <= n:", "if False:", SPLITS),
    (f"{EVALUATION}/splits.py", "if known < 0 or reserved < 0:", "if False:", SPLITS),
    (f"{EVALUATION}/splits.py", "elif shuffle_untimed:", "elif True:", SPLITS),
    (f"{EVALUATION}/splits.py", "rows[from_end < n]", "rows", SPLITS),
    (f"{EVALUATION}/protocols.py", "if not len(rows):", "if False:", PROTOCOLS),
    (f"{EVALUATION}/protocols.py", "if entry.needs_times and dataset.timestamp is None:", "if False:", PROTOCOLS),
    (f"{EVALUATION}/protocols.py", "if unknown or not numbers:", "if False:", PROTOCOLS),
    (f"{EVALUATION}/bench.py", "if name not in MODELS:", "if False:", MODELS),
    (f"{EVALUATION}/bench.py", "if name in WITH_LLM and not has_recording:", "if False:", MODELS),
    # comparisons of runs and of benchmarks
    (f"{EVALUATION}/compare.py", "if a.scale != b.scale:", "if False:", COMPARE),
    (f"{EVALUATION}/compare.py", "if not len(rows[0]):", "if False:", COMPARE),
    (f"{EVALUATION}/compare.py", "if first.fold != second.fold:", "if False:", COMPARE),
    (f"{EVALUATION}/compare.py", "if self.a is None or", "if", COMPARE),
    (f"{EVALUATION}/compare.py", "        if n_users < MIN_GROUPS:", "        if False:", COMPARE),
    # verdicts on too little data
    (f"{VALIDITY}/groups.py", "rows.sum() >= MIN_RATINGS and len", "len", GROUPS),
    (f"{VALIDITY}/groups.py", " and len(np.unique(data.group[rows])) >= MIN_GROUPS", "", GROUPS),
    (f"{VALIDITY}/groups.py", "*member, n_intervals=len(large))", "*member, n_intervals=1)", GROUPS),
    (
        f"{VALIDITY}/groups.py",
        "(by_time == N_PARTS - 1).sum()) < MIN_RATINGS",
        "(by_time == N_PARTS - 1).sum()) < 1",
        DRIFT,
    ),
    (f"{VALIDITY}/contamination.py", "len(probe.truth) < MIN_ANSWERS", "len(probe.truth) < 1", RECALL),
    (f"{VALIDITY}/contamination.py", "np.isfinite(real) & np.isfinite(invented)", "np.isfinite(real)", RECALL),
    (f"{VALIDITY}/contamination.py", "if title not in taken]", "]", RECALL),
    (f"{VALIDITY}/recommenders.py", "len(data.recommenders) < MIN_RECOMMENDERS", "False", RANKING),
    (f"{VALIDITY}/recommenders.py", ".sum() >= 20)", ".sum() >= 1)", RANKING),
    (
        f"{VALIDITY}/realism.py",
        "np.bincount(user, minlength=n_users) >= MIN_RATINGS",
        "np.bincount(user, minlength=n_users) >= 1",
        FEW,
    ),
    (f"{VALIDITY}/realism.py", "np.flatnonzero(count >= MIN_RATINGS)", "np.flatnonzero(count >= 1)", FEW),
    (f"{VALIDITY}/realism.py", "if len(rated) < 2:", "if not len(rated):", FEW),
    (f"{VALIDITY}/verdicts.py", "lowest < measured.low and", "lowest < measured.estimate and", JUDGE),
    (f"{VALIDITY}/verdicts.py", "and measured.high < highest", "and measured.estimate < highest", JUDGE),
    (f"{VALIDITY}/verdicts.py", "measured.high <= lowest", "measured.high < lowest", JUDGE),
    (f"{VALIDITY}/verdicts.py", "measured.low >= highest", "measured.low > highest", JUDGE),
    (f"{VALIDITY}/verdicts.py", 'if self.unit == "rating units" else', "if False else", JUDGE),
    (f"{VALIDITY}/validate.py", "    if n >= MIN_GROUPS:\n", "    if True:\n", JUDGE),
    (f"{VALIDITY}/discrimination.py", "key[rated | ~known]", "key[~known]", PICKS),
    (f"{VALIDITY}/discrimination.py", "np.where(available < n, np.nan,", "np.where(available < 0, np.nan,", PICKS),
    # simulators from elsewhere may have seen the held-out ratings
    (
        f"{VALIDITY}/inputs.py",
        "if known.sum() >= MIN_ROWS and agreed.mean() >= SUSPICIOUS:",
        "if False:",
        SOURCES,
    ),
    (f"{VALIDITY}/inputs.py", "if len(rows) < MIN_ROWS:", "if False:", SOURCES),
    (f"{VALIDITY}/inputs.py", "if digest != train.digest:", "if False:", SOURCES),
    (f"{VALIDITY}/inputs.py", "if seen.any():", "if False:", SOURCES),
    (f"{VALIDITY}/inputs.py", "if not good.all():", "if False:", SOURCES),
    (f"{VALIDITY}/inputs.py", "if not recorded.answered.any():", "if False:", SOURCES),
    # the ensemble taken apart
    (
        f"{ABLATION}/variants.py",
        "train.support.regime, answers.of_new,",
        "train.support.regime, answers.of_new & False,",
        WHOLE,
    ),
    (
        f"{ABLATION}/variants.py",
        "if len(learn) < MIN_ROWS or not len(rows):",
        "if len(learn) < 30 or not len(rows):",
        APART,
    ),
    (f"{ABLATION}/variants.py", "(answers.fallback, keep=answers.known)", "(answers.fallback)", APART),
    (f"{ABLATION}/study.py", "if BASE not in members:", "if False:", SWITCHED),
    (f"{ABLATION}/study.py", "if name not in titles:", "if False:", SWITCHED),
    (f"{ABLATION}/study.py", "if reason and name in (wanted or ()):", "if False:", SWITCHED),
    (f"{ABLATION}/study.py", "if without_profile is not None and recording is None:", "if False:", NO_PROFILE),
    (f"{ABLATION}/scoring.py", " and PROFILE not in components:", ":", READ),
    (f"{ABLATION}/member_answers.py", "if name not in raters:", "if False:", SWITCHED),
    (f"{ABLATION}/scoring.py", "if not llm.answered.any():", "if False:", BY_ITEM),
]
