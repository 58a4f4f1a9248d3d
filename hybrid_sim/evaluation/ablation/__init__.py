"""Ablations: what each component of the ensemble is worth, over all subsets of them, on the same answers."""

from hybrid_sim.evaluation.ablation.report import AblationResult, ablation_text, write_ablation
from hybrid_sim.evaluation.ablation.study import ablate

__all__ = ["AblationResult", "ablate", "ablation_text", "write_ablation"]
