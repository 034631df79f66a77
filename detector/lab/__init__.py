"""The loss laboratory: curves, a worked example, the cumulative loss of a trained detector, ablations."""
