"""How long a convolutional network takes where nobody has run it: from its MACs, bytes and layers, by one law.

Parameters stand in the table `[unit.latency]` of a unit in a board file; experiments/fit_board.py fits them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one frame of a network asks for."""

    macs: float  # multiply-accumulates
    weight_bytes: float  # in single precision
    activation_bytes: float  # that convolutions and classifiers write, in single precision
    layers: int  # that compute something


@dataclass(frozen=True, kw_only=True)
class LatencyLaw:
    """Time of a frame on one unit: cycles of its clock, which cores share by Amdahl's law, and what no clock changes.

    Activations go by cycles: they scale with cores, and those of a small network never leave the caches. Weights
    come from memory in every frame.
    """

    mac_cycles: float  # per multiply-accumulate, on one core
    activation_cycles: float = 0.0  # per byte that a layer writes, on one core: packing, padding, depthwise layers
    layer_cycles: float = 0.0  # per layer, whatever the cores: dispatch, allocation
    parallel: float = 0.0  # share of the cycles of MACs and activations that more cores divide, 0..1
    weights_gbps: float  # GB/s at which weights come from memory
    layer_s: float = 0.0  # s per layer, whatever the clock: a GPU's launches, which the host makes

    def speedup(self, cores: int) -> float:
        """How much faster than one core `cores` cores are (1 or more) with MACs and activations: Amdahl's law."""
        return 1.0 / (1.0 - self.parallel + self.parallel / cores)

    def compute_s(self, work: Work, cores: int, freq_hz: float) -> float:
        """The part of a frame's time (s) that goes with 1/f."""
        shared = self._shared_cycles(work) / self.speedup(cores)
        return (shared + self.layer_cycles * work.layers) / freq_hz

    def stall_s(self, work: Work) -> float:
        """The part of a frame's time (s) that no clock of the unit and no further core shortens."""
        return work.weight_bytes / (self.weights_gbps * 1e9) + self.layer_s * work.layers

    def latency_s(self, work: Work, cores: int, freq_hz: float) -> float:
        """Time of one frame (s), alone on the unit."""
        return self.compute_s(work, cores, freq_hz) + self.stall_s(work)

    def busy_s(self, work: Work, freq_hz: float) -> float:
        """Core-seconds of computing in one frame, the same on any number of cores."""
        return (self._shared_cycles(work) + self.layer_cycles * work.layers) / freq_hz

    def _shared_cycles(self, work: Work) -> float:
        return self.mac_cycles * work.macs + self.activation_cycles * work.activation_bytes
