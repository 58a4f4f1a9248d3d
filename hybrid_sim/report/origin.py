"""Where a page's figures come from, in words."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_sim.core.provenance import Provenance, dataset_label


def provenance_facts(source: Provenance) -> Mapping[str, str]:
    """The provenance as names and values for the foot of a page."""
    packages = ", ".join(f"{name} {version}" for name, version in source.versions.items())
    facts = {
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
    return facts
