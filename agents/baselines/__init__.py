"""Baselines: the controllers that a learned policy has to beat."""
