"""The dynamic networks: reserved for nets, training, ladders and serving (see CHANGELOG)."""
