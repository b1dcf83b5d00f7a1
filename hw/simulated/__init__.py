"""Simulated boards: one physics, array-first."""
