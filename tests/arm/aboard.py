"""What the tests run in an Arm Python, and here as well; needs what flies, NumPy and ncnn.

python aboard.py machine
python aboard.py decide POLICY.npz OBSERVATIONS.npy OUT.npz
python aboard.py infer LADDER FRAMES.npy OUT.npz
"""

from __future__ import annotations

import json
import platform
import struct
import sys
from collections.abc import Callable
from importlib.metadata import version

import numpy as np


def machine() -> None:
    """Say what this Python is."""
    said = {
        "machine": platform.machine(),
        "bits": 8 * struct.calcsize("P"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "numpy": np.__version__,
        "ncnn": version("ncnn"),
    }
    print(json.dumps(said))


def decide(policy: str, observations: str, out: str) -> None:
    """A saved policy's choices, (n, sub-actions), and its scores of all there are, (n, choices)."""
    from agents.saved import SavedPolicy

    player = SavedPolicy.load(policy)
    actions, logits = [], []
    for observation in np.load(observations):
        actions.append(np.atleast_1d(player.predict(observation)).copy())
        logits.append(player.logits(observation).copy())
    np.savez(out, actions=np.array(actions), logits=np.array(logits), nvec=np.array(player.header.nvec))


def infer(ladder: str, frames: str, out: str) -> None:
    """Logits of every rung, (n, rungs, classes)."""
    from dyndnn.ladder import ladder_folder
    from dyndnn.network import Network

    network = Network.load(ladder_folder(ladder))
    numbers = range(1, len(network.ladder.rungs) + 1)
    np.savez(out, logits=np.array([[network.infer(frame, k) for k in numbers] for frame in np.load(frames)]))


if __name__ == "__main__":
    asked: dict[str, Callable[..., None]] = {"machine": machine, "decide": decide, "infer": infer}
    asked[sys.argv[1]](*sys.argv[2:])
