"""Guards of the registry and the nouns."""

SERIALIZATION, STORE = "hybrid_sim/core/serialization.py", ["tests/test_store.py"]

MEMORY, CLI_MAIN, PROCESS = "hybrid_sim/core/memory.py", "hybrid_sim/cli/__init__.py", ["tests/test_process.py"]
COST, FITS = "hybrid_sim/ensemble/cost.py", ["tests/test_memory.py"]
CHECKS, FRAMES = ["tests/test_cli_checks.py"], ["tests/test_frames.py"]
SIMULATOR = "hybrid_sim/simulation/simulator.py"
FIT_CACHE, CACHED = "hybrid_sim/core/fit_cache.py", ["tests/test_fit_cache.py"]
SESSION, RUN = "hybrid_sim/simulation/session.py", ["tests/test_run.py"]

MUTANTS = [
    (
        "hybrid_sim/core/registry.py",
        "if self._entries.get(name, entry) is not entry:",
        "if False:",
        ["tests/test_registry.py"],
    ),
    # Saved models
    (SERIALIZATION, "if _is_local(field) and field.name in node", "if field.name is node", STORE),
    (SERIALIZATION, " if field.init and not _is_local(field)}", " if field.init}", STORE),
    (
        SERIALIZATION,
        "                _check_size(archive, member)\n",
        "                pass\n",
        STORE,
    ),
    (
        SERIALIZATION,
        "if sum(member.file_size for member in members) > file.seek(0, os.SEEK_END):",
        "if False:",
        STORE,
    ),
    (
        SERIALIZATION,
        'if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:',
        "if False:",
        STORE,
    ),
    ("hybrid_sim/core/files.py", "if checked_size(path) > _MAX_JSON:", "if checked_size(path) < 0:", STORE),
    ("hybrid_sim/core/files.py", "if about.st_size > 8 * on_disk + 1_000_000:", "if False:", STORE),
    ("hybrid_sim/core/files.py", "if not stat.S_ISREG(about.st_mode):", "if False:", STORE),
    ("hybrid_sim/core/model_files.py", ' and size == expected.get("bytes")', "", STORE),
    ("hybrid_sim/core/model_files.py", "        _recover(folder.resolve())\n", "        pass\n", STORE),
    ("hybrid_sim/core/model_files.py", "    _recover(folder)\n", "", STORE),
    # Cached fits
    (FIT_CACHE, '            "what": what,\n', "", CACHED),
    (FIT_CACHE, '            "rater": settings,\n', "", CACHED),
    (FIT_CACHE, '            "embedder": embedder and embedder.fingerprint,\n', "", CACHED),
    (FIT_CACHE, '            "data": dataset.digest,\n', "", CACHED),
    (FIT_CACHE, '            "rows": [_hashed(part) for part in rows],\n', "", CACHED),
    (FIT_CACHE, '("hybrid_sim", type(rater).__module__.partition(".")[0])', '("hybrid_sim",)', CACHED),
    (FIT_CACHE, "fit.seconds >= self.least_seconds", "True", CACHED),
    (FIT_CACHE, 'if about.get("entry") != place.name:', "if False:", CACHED),
    (FIT_CACHE, "if str(arrays.pop(ENTRY, None)) != file.name:", "if arrays.pop(ENTRY, None) is None:", CACHED),
    (FIT_CACHE, "    checked_size(file)\n", "", CACHED),
    (FIT_CACHE, "            os.utime(place)\n", "            pass\n", CACHED),
    (FIT_CACHE, "            if total <= self.max_bytes:\n", "            if True:\n", CACHED),
    (FIT_CACHE, "        cache.make_room()\n", "        pass\n", CACHED),
    ("hybrid_sim/evaluation/resources.py", "is_whole = cache.n_read == n_read", "is_whole = True", CACHED),
    (SERIALIZATION, ' and f.name != "embedder"]', "][:0]", CACHED),
    (SESSION, "None if self._overwrite else", "None if True else", RUN),
    (
        SESSION,
        "        if not replay and not self.folder.journal.exists():\n",
        "        if False:\n",
        RUN,
    ),
    (
        "hybrid_sim/simulation/run_folder.py",
        "if entries and not any(name.startswith(MARKS) for name in entries):",
        "if False:",
        RUN,
    ),
    # Checks before any work, and frames
    ("hybrid_sim/cli/parsing.py", "        if name in options.given:\n", "        if False:\n", CHECKS),
    ("hybrid_sim/cli/pair_options.py", "    if unknown:\n", "    if False:\n", CHECKS),
    ("hybrid_sim/core/files.py", "if place.is_file() and place != target.absolute():", "if False:", CHECKS),
    ("hybrid_sim/core/parallel.py", "copy_context().run, _timed", "_timed", CHECKS),
    ("hybrid_sim/core/bars.py", "    thread.start()\n", "    thread.start(), ended.set()\n", CHECKS),
    (
        "hybrid_sim/simulation/simulator.py",
        'if is_property or (name.endswith("_")',
        'if False and (name.endswith("_")',
        FRAMES,
    ),
    ("hybrid_sim/data/columns.py", 'if not re.fullmatch(r"__index', 'if True or not re.fullmatch(r"__index', FRAMES),
    ("hybrid_sim/core/model_files.py", "            if is_left:\n", "            if True:\n", STORE),
    # Memory
    (MEMORY, "    if limit < LIBRARIES:\n", "    if False:\n", PROCESS),
    (MEMORY, "        os.environ.setdefault(name, value)\n", "        pass\n", PROCESS),
    (CLI_MAIN, "if not isinstance(error, MemoryError) and not is_used_up():", "if False:", PROCESS),
    (CLI_MAIN, "if not isinstance(error, MemoryError) and not is_used_up():", "if True:", PROCESS),
    (MEMORY, "return min(_rooms(root), default=", "return max(_rooms(root), default=", FITS),
    (MEMORY, ".read_text()) - cache\n", ".read_text())\n", FITS),
    (COST, "    if memory is None and cost.total.memory > available.size:\n", "    if False:\n", FITS),
    (COST, "    while memory is not None and cost.total.memory > memory:\n", "    while False:\n", FITS),
    (COST, "        if len(left) == 1:\n", "        if False:\n", FITS),
    (COST, "fits[: n_workers(n_jobs)]", "fits[:1]", FITS),
    ("hybrid_sim/cli/parsing.py", "if parts is None or not float(parts[1]):", "if parts is None:", FITS),
]
