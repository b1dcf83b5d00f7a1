"""`make bench`, networks: network_table.py's tables for the papers' layout with random weights, and their ratios.

No time is asserted, machines differ; ratios of one run are, loosely, since a busy machine blurs them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dyndnn.record import recorded_network
from experiments.network_table import markdown, measure, random_ladders

pytestmark = pytest.mark.bench


def test_networks(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    speeds = [measure(folder, recorded_network(folder)) for folder in random_ladders(tmp_path)]
    print("\n" + markdown(speeds))
    group = speeds[0]
    assert group.latencies_s[-1] / group.latencies_s[0] >= 3.0
    assert all(min(speed.beside_torch) >= 1.5 for speed in speeds)
    assert group.switch <= 1.2
    assert group.upgrade[0] <= 1.3
    assert 2.3 <= group.separate_bytes / group.model_bytes <= 2.6
    assert 2.3 <= group.nested_bytes / group.model_bytes <= 2.6
