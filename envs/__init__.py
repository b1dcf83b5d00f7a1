"""Tasks: scenarios, observations, rewards and the Gymnasium environments."""
