"""The provenance of results as names and values."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_sim.core.provenance import Provenance, dataset_label


def provenance_facts(source: Provenance) -> Mapping[str, str]:
    """Command, commit, seed, data and packages, for the foot of a page."""
    packages = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    return {
        "command": source.command,
        "commit": source.commit or "not known",
        "seed": str(source.seed),
        "data": f"{dataset_label(source)}: {source.n_ratings:,} ratings of {source.n_users:,} users, "
        f"{source.n_items:,} items in the catalogue",
        "data hash": source.data_hash,
        "embedder": source.embedder or "none named",
        "made with": f"Python {source.python} on {source.platform}",
        "packages": packages or "not known",
    }
