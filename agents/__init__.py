"""Controllers: governors, heuristics, bounds and learned policies, and the loop that flies them."""
