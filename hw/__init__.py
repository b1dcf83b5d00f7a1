"""Boards: the vocabulary, the simulated physics and the files that describe hardware; numpy alone."""
