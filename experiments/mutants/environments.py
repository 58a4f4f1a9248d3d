"""Guards of environments, of the policies and agents in them, and of their commands."""

ROOM = "hybrid_sim/environments"
ENVIRONMENT, AGENTS = ["tests/test_environment.py"], ["tests/test_environment_agents.py"]

MUTANTS = [
    # Folders
    (
        f"{ROOM}/folder.py",
        "if not isinstance(expected, dict) or fingerprint != expected.get(name):",
        "if False:",
        ENVIRONMENT,
    ),
    (f"{ROOM}/folder.py", 'if manifest.get("format_version") != FORMAT_VERSION:', "if False:", ENVIRONMENT),
    (f"{ROOM}/build.py", "        simulator.require_fitted_to(dataset)\n", "        pass\n", ENVIRONMENT),
    # Episodes
    (
        f"{ROOM}/kernel.py",
        "if not 0 <= actions[row, place] < len(given.features):",
        "if not actions[row, place] < len(given.features):",
        ENVIRONMENT,
    ),
    (f"{ROOM}/kernel.py", "if item < 0 or now.closed[row, item]:", "if item < 0:", ENVIRONMENT),
    (f"{ROOM}/kernel.py", "is_open = state.closed[row, item] == 0", "is_open = True", ENVIRONMENT),
    (
        f"{ROOM}/kernel.py",
        "    learn_answer(row, item, level, centre, variance, shift, state, people, gain)\n",
        "",
        ENVIRONMENT,
    ),
    (f"{ROOM}/episodes.py", "if getattr(self, name) not in choices:", "if False:", ENVIRONMENT),
    (f"{ROOM}/episodes.py", "rows = rows[n_open[rows] > 0]", "pass", ENVIRONMENT),
    (f"{ROOM}/extras.py", "if find_spec(package) is None:", "if False:", ENVIRONMENT),
    # Policies and agents
    (f"{ROOM}/rank.py", "if len(self.users) < MIN_USERS:", "if False:", AGENTS),
    (f"{ROOM}/train.py", 'if _progress(path)["settings"] != settings:', "if False:", AGENTS),
]
