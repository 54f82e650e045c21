"""Measured ratios: ours against the raw limit, in one run. Absolute times mean little on a shared machine."""
