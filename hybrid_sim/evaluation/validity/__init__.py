"""Whether a simulator may be believed: evidence from held-out ratings, judged against thresholds that are stated."""
