"""NETWORKS: the dynamic networks; torch to train them, ncnn to serve them, nothing of boards or controllers."""
