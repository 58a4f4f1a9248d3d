"""The ensemble: out-of-fold predictions of the members, the combiner that learns from them, calibration, intervals."""
