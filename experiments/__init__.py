"""Questions: each file without an underscore is a command; commands share the `_*.py` and nothing else."""
