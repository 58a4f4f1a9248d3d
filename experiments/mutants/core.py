"""Guards of the registry and the nouns."""

SERIALIZATION, STORE = "hybrid_sim/core/serialization.py", ["tests/test_store.py"]

MEMORY, CLI_MAIN, PROCESS = "hybrid_sim/core/memory.py", "hybrid_sim/cli/__init__.py", ["tests/test_process.py"]
COST, FITS = "hybrid_sim/ensemble/cost.py", ["tests/test_memory.py"]

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
