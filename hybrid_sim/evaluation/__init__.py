"""How predictions are judged: metrics, splits, protocols, benchmarks, ablations, validity."""
