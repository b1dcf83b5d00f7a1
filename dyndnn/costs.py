"""What each rung of a network costs, counted from its shape; leans on the standard library alone."""

from __future__ import annotations

from dyndnn.netconfig import Convolution, NetConfig, convolutions

FLOAT_BYTES = 4


def macs(config: NetConfig, rung: int) -> int:
    """Multiply-accumulates of one frame on a rung (0 is the smallest): convolutions and classifier."""
    conv = sum(_connections(config, c, rung) * c.kernel**2 * c.height * c.width for c in convolutions(config))
    return conv + config.features[rung] * config.classes


def weight_count(config: NetConfig, rung: int) -> int:
    """Numbers that a rung needs in memory, batch norm folded: kernels, a bias per channel, the classifier.

    With classifiers of their own, group and nested rungs need those of the smaller rungs for an upgrade only;
    they are not counted.
    """
    total = 0
    for c in convolutions(config):
        total += _connections(config, c, rung) * c.kernel**2 + config.widths[rung][c.target]
    return total + (config.features[rung] + 1) * config.classes


def activation_bytes(config: NetConfig, rung: int) -> int:
    """Bytes that the convolutions, the last average and the classifier of a rung write per frame, as float32."""
    written = sum(config.widths[rung][c.target] * c.height * c.width for c in convolutions(config))
    return FLOAT_BYTES * (written + config.features[rung] + config.classes)


def _connections(config: NetConfig, c: Convolution, rung: int) -> int:
    """Pairs of an input and an output channel that a convolution joins on a rung."""
    out = [row[c.target] for row in config.widths[: rung + 1]]
    if c.source is None:
        return config.input_shape[0] * out[-1]
    into = [row[c.source] for row in config.widths[: rung + 1]]
    if config.connectivity == "slimmable":
        return into[-1] * out[-1]
    total = 0
    for j in range(rung + 1):
        new_out = out[j] - (out[j - 1] if j else 0)
        seen = into[j] if config.connectivity == "nested" else into[j] - (into[j - 1] if j else 0)
        total += new_out * seen
    return total
