"""Guards of the registry and the nouns."""

MUTANTS = [
    (
        "hybrid_sim/core/registry.py",
        "if self._entries.get(name, entry) is not entry:",
        "if False:",
        ["tests/test_registry.py"],
    ),
]
