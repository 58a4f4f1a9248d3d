"""Guards of simulations, runs, refits, explanations, forecasts of new items, and of their commands."""

SIMULATION, NEW_ITEMS, CORE, CLI = (f"hybrid_sim/{room}" for room in ("simulation", "new_items", "core", "cli"))
RUN, EXCLUSIONS = ["tests/test_run.py"], ["tests/test_exclusions.py"]
WORTH, SIMULATED = ["tests/test_worth.py"], ["tests/test_simulation.py"]
EXPLAIN, COMMAND = ["tests/test_explain.py"], ["tests/test_cli_simulate.py"]
STREAMS = ["tests/test_process.py"]
COLD, COLD_COMMAND = ["tests/test_cold.py"], ["tests/test_cold_cli.py"]

MUTANTS = [
    # The language model's value
    (f"{SIMULATION}/llm_value.py", "return n >= MIN_ROWS", "return True", EXCLUSIONS),
    (f"{SIMULATION}/llm_value.py", " and correction.largest_gain_ < MIN_GAIN", "", WORTH),
    (f"{SIMULATION}/llm_value.py", "max(weights) < _SMALLEST_WEIGHT", "not any(weights)", ["tests/test_run.py"]),
    (f"{SIMULATION}/llm_value.py", "helps &= ~np.isin(regimes, kinds)", "pass", WORTH),
    (f"{SIMULATION}/llm_value.py", "rows = np.flatnonzero(pairs.known)", "rows = np.arange(len(pairs))", WORTH),
    (
        f"{SIMULATION}/llm_value.py",
        "rows = rows[has_text[pairs.item[rows]] & (dataset.user_counts[pairs.user[rows]] > 0)]",
        "rows = rows[dataset.user_counts[pairs.user[rows]] > 0]",
        WORTH,
    ),
    (f"{SIMULATION}/llm_value.py", "rows = np.sort(rows[first])", "rows = np.sort(rows)", WORTH),
    (
        f"{SIMULATION}/llm_value.py",
        "n = max(round(share * len(total)), min(len(total), 1)) if share > 0 else 0",
        "n = max(round(share * len(total)), min(len(total), 1))",
        WORTH,
    ),
    (f"{SIMULATION}/llm_value.py", "min(len(total), 1)) if share", "0) if share", WORTH),
    (f"{SIMULATION}/llm_value.py", "rows, after = here[moved], after.take(moved)", "rows = here", WORTH),
    (
        f"{SIMULATION}/llm_value.py",
        "((self.warm, WARM), (self.cold, COLD_ITEM))",
        "((self.warm, WARM), (self.warm, COLD_ITEM))",
        WORTH,
    ),
    (f"{SIMULATION}/llm_value.py", "1.0 + pooled, 1.0)", "1.0, 1.0)", WORTH),
    # Simulations
    (f"{SIMULATION}/simulate.py", "    simulator.require_fitted_to(dataset)\n", "", SIMULATED),
    (f"{SIMULATION}/simulate.py", "settings.learn_from if len(ask_about) else 0", "settings.learn_from", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "v.at < start", "v.at <= start", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "start is not None and v.at", "v.at", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "history.first(len(history) - n)", "history", SIMULATED),
    (
        f"{SIMULATION}/simulate.py",
        " for name, t in timelines.items() if name in dataset.users.index",
        " for name, t in timelines.items()",
        EXCLUSIONS,
    ),
    (f"{SIMULATION}/simulate.py", "min(n_items, int(counts[user]) // 2)", "n_items", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "np.flatnonzero(counts >= 2)", "np.flatnonzero(counts >= 1)", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "last.item[has_text[last.item]])", "last.item)", EXCLUSIONS),
    (f"{SIMULATION}/simulate.py", "simulation.users.get(user) or states.now(user)", "states.now(user)", SIMULATED),
    (
        f"{SIMULATION}/interviewer.py",
        "self._send(self._send(calls, answers), answers)",
        "self._send(calls, answers)",
        SIMULATED,
    ),
    (f"{SIMULATION}/interviewer.py", "rows=call.rows[missing]", "rows=call.rows", SIMULATED),
    (
        f"{SIMULATION}/interviewer.py",
        'if model is None or settings.profile.writer == "statistics":',
        "if model is None:",
        EXCLUSIONS,
    ),
    (f"{SIMULATION}/interviewer.py", 'None if "profile" in without else profile_author', "profile_author", COMMAND),
    # Simulator
    (f"{SIMULATION}/simulator.py", "if len(users) != len(items):", "if False:", RUN),
    (f"{SIMULATION}/simulator.py", "if wrong is not None:", "if False:", RUN),
    (f"{SIMULATION}/simulator.py", "if isinstance(ids, str):", "if False:", RUN),
    (f"{SIMULATION}/simulator.py", "if dataset.digest != self.dataset_digest_:", "if False:", RUN),
    (f"{SIMULATION}/simulator.py", "keep=level > 0", "keep=level >= 0", ["tests/test_simulator.py"]),
    # Runs and their folders
    (f"{SIMULATION}/run_folder.py", " and _options(saved) == _options(simulator)", "", RUN),
    (f"{SIMULATION}/run_folder.py", " and saved.dataset_digest_ == dataset.digest", "", RUN),
    (
        f"{SIMULATION}/run_folder.py",
        "return simulator.seed, members, tuple(simulator.without)",
        "return 0, members, ()",
        RUN,
    ),
    (f"{SIMULATION}/run_folder.py", "if (self.path / MANIFEST).is_file():", "if False:", COLD_COMMAND),
    (f"{SIMULATION}/run_folder.py", "if other != kind:", "if False:", COLD_COMMAND),
    (f"{SIMULATION}/session.py", "if self.folder.journal.exists():", "if False:", RUN),
    (f"{SIMULATION}/session.py", "settings=identity, replay=replay) as journal", "replay=replay) as journal", RUN),
    (
        f"{SIMULATION}/session.py",
        "if explained is None and len(simulation.pairs) > MAX_EXPLAINED:",
        "if False:",
        EXCLUSIONS,
    ),
    (f"{SIMULATION}/session.py", '        self.__dict__.pop("results", None)\n', "", RUN),
    (f"{SIMULATION}/session.py", "max_calls=self.max_calls", "max_calls=None", RUN),
    (f"{SIMULATION}/session.py", 'and "llm" not in self.wanted.without', "", COMMAND),
    (f"{SIMULATION}/run_folder.py", "np.where(np.isnan(run.known_rating), pairs, IN_TRAINING)", "pairs", COMMAND),
    (f"{SIMULATION}/run_folder.py", "if len(line) > MAX_LINE:", "if False:", ["tests/test_pages_run.py"]),
    ("hybrid_sim/profiles/timelines.py", "if len(line) > MAX_LINE:", "if False:", ["tests/test_profile_files.py"]),
    (f"{SIMULATION}/run_folder.py", "if changed := files.changed(about):", "if False:", RUN),
    (
        f"{SIMULATION}/run_folder.py",
        ' if about.get("digest", _digest(about)) != _digest(about) else []',
        " if 0 else []",
        RUN,
    ),
    (f"{SIMULATION}/run_folder.py", "            if file.exists():\n", "            if False:\n", RUN),
    (f"{SIMULATION}/run_folder.py", "    if folder.is_symlink():\n", "    if False:\n", RUN),
    (f"{SIMULATION}/session.py", 'if "simulator" not in self.__dict__:', "if False:", RUN),
    ("hybrid_sim/llm/journal_file.py", "            if path.is_symlink():\n", "            if False:\n", RUN),
    # Standard streams and compiled code
    (f"{CLI}/__init__.py", "        if error.errno in FULL:\n", "        if False:\n", STREAMS),
    (f"{CLI}/__init__.py", "    open_standard_streams()\n", "", STREAMS),
    (f"{CORE}/compiled.py", "        except RuntimeError:\n", "        except ZeroDivisionError:\n", STREAMS),
    (f"{CORE}/compiled.py", "            self._discard()\n            return None\n", "            raise\n", STREAMS),
    # Incremental refit
    (f"{SIMULATION}/refit.py", "    if missing.any():\n", "    if False:\n", EXCLUSIONS),
    (f"{SIMULATION}/refit.py", "    if not is_same:\n", "    if False:\n", COLD),
    (f"{SIMULATION}/refit.py", "np.array_equal(support.n_item_[rows], dataset.item_counts)", "True", COLD),
    (f"{SIMULATION}/refit.py", "if dataset.scale != ", "if False and dataset.scale != ", EXCLUSIONS),
    (f"{SIMULATION}/refit.py", "    if len(missing):\n", "    if False:\n", EXCLUSIONS),
    (
        f"{SIMULATION}/refit.py",
        "cache = copy.deepcopy(ensemble.members)",
        "cache = ensemble.members",
        COLD,
    ),
    # Explanations
    (f"{CORE}/types.py", "known = np.flatnonzero(self.known)", "known = np.arange(len(self))", EXCLUSIONS),
    (f"{SIMULATION}/explain.py", " if abs(part) > MIN_PART", "", EXCLUSIONS),
    (f"{SIMULATION}/explain.py", "        simulator.require_fitted_to(dataset)\n", "        pass\n", EXPLAIN),
    (
        f"{SIMULATION}/explain.py",
        "np.isnan(ensemble.amounts[:, 0]) | ~known",
        "np.isnan(ensemble.amounts[:, 0])",
        EXPLAIN,
    ),
    # New items
    ("hybrid_sim/ensemble/cold_items.py", "(dataset.item_counts >= MIN_RATINGS) & ", "", EXCLUSIONS),
    ("hybrid_sim/ensemble/cold_items.py", "        if len(others):", "        if True:", COLD),
    (f"{NEW_ITEMS}/uncertainty.py", "if len(gaps) < MIN_ITEMS:", "if not len(gaps):", EXCLUSIONS),
    (f"{NEW_ITEMS}/uncertainty.py", "scale.clip(np.column_stack(ends))", "np.column_stack(ends)", EXCLUSIONS),
    (f"{NEW_ITEMS}/forecast.py", " & (self.above > 0.0)", "", EXCLUSIONS),
    (f"{NEW_ITEMS}/forecast.py", "(probable | ~probable.any(axis=1, keepdims=True))", "(self.above > -9)", EXCLUSIONS),
    (f"{NEW_ITEMS}/audience.py", " if one.low * one.high > 0", "", EXCLUSIONS),
    (f"{NEW_ITEMS}/audience.py", "np.nanmax(np.abs(error) / spread, axis=1)", "np.abs(error) / spread", EXCLUSIONS),
    (f"{CORE}/types.py", "if not 0 < len(liked) < scale.n_levels:", "if not liked:", COLD),
    (f"{NEW_ITEMS}/run.py", "if len(self.items) * len(self.users) > MAX_PAIRS:", "if False:", EXCLUSIONS),
    (
        f"{NEW_ITEMS}/run.py",
        "    if simulator is not None:\n        require_same_ratings(simulator, dataset)\n",
        "",
        RUN,
    ),
    (
        f"{NEW_ITEMS}/audience.py",
        "MIN_USERS <= inside.sum() < len(users)",
        "0 < inside.sum() < len(users)",
        EXCLUSIONS,
    ),
    (f"{NEW_ITEMS}/audience.py", "inside.sum() < len(users):", "inside.sum():", EXCLUSIONS),
    (f"{NEW_ITEMS}/audience.py", "if len(set(values.tolist())) <= MAX_GROUPS else", "if True else", EXCLUSIONS),
    (f"{NEW_ITEMS}/audience.py", 'if column.name != "age":', "if False:", EXCLUSIONS),
    (f"{NEW_ITEMS}/leakage.py", " or (scatter >= WEAK and raters >= WEAK)", "", EXCLUSIONS),
    (f"{NEW_ITEMS}/leakage.py", "raters = min(raters, self.rater_sigmas / RATER_SIGMAS)", "pass", EXCLUSIONS),
    (f"{NEW_ITEMS}/leakage.py", "if abs(self.count) >= COUNT_LIMIT:", "if self.count >= COUNT_LIMIT:", EXCLUSIONS),
    (
        f"{NEW_ITEMS}/leakage.py",
        "items = dataset.items.drop(columns=[column])",
        "items = dataset.items",
        ["tests/test_cold_leaks.py"],
    ),
    # A saved model
    (f"{CORE}/model_files.py", "        old.rename(folder)\n        raise", "        raise", ["tests/test_store.py"]),
    # Commands
    (f"{CLI}/pair_options.py", "if options.user or options.item:", "if False:", COMMAND),
    (f"{CLI}/data_options.py", "if new.members is not None or set(new.without) - set(WITH_LLM):", "if False:", COMMAND),
]
