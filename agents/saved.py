"""A learned policy that flies: a small network played in NumPy, with no torch anywhere near."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.policy_file import Header, Layer, read_policy, write_policy
from envs.codec import Codec
from hw.errors import InputError
from hw.types import BoardSpec, Demand, Knobs, Profile, Telemetry


class SavedPolicy:
    """A multi-layer perceptron over the codec's observation; the likeliest choice of each sub-action.

    Not for two threads at once: `predict` works in buffers of its own.
    """

    def __init__(self, header: Header, layers: Sequence[Layer], source: str | Path = "policy") -> None:
        self.header = header
        self.layers = [(w.astype(np.float32), b.astype(np.float32)) for w, b in layers]
        self.source = source  # for messages
        self._codec: Codec | None = None
        # Biases ride along as one more column, against a constant 1 at the end of every layer's input:
        # one BLAS call per layer and nothing to add afterwards.
        self._matrices = [np.ascontiguousarray(np.column_stack((w, b))) for w, b in self.layers]
        inputs = [np.ones(m.shape[1], np.float32) for m in self._matrices]
        self._logits = np.zeros(header.sizes[-1], np.float32)
        self._observation = inputs[0][:-1]
        outputs = [buffer[:-1] for buffer in inputs[1:]]
        self._hidden = list(zip(self._matrices[:-1], inputs[:-1], outputs, strict=True))
        self._last = (self._matrices[-1], inputs[-1], self._logits)
        self._blocked = np.zeros(header.sizes[-1], np.bool_)
        ends = np.cumsum(header.nvec).tolist()
        self._segments = [self._logits[end - n : end] for n, end in zip(header.nvec, ends, strict=True)]
        self._flat = len(header.nvec) == 1

    @classmethod
    def load(cls, path: str | Path) -> SavedPolicy:
        """Read a policy file; InputError with one line where there is anything wrong with it."""
        header, layers = read_policy(path)
        return cls(header, layers, path)

    def save(self, path: str | Path) -> None:
        """Write the policy file, all or nothing; InputError where it cannot be written."""
        write_policy(path, self.header, self.layers)

    def logits(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of every choice, (sum(nvec),), for one observation (d,). The next call overwrites them."""
        self._observation[:] = observation
        relu = self.header.activation == "relu"
        for matrix, x, out in self._hidden:
            np.dot(matrix, x, out)
            if relu:
                np.maximum(out, 0.0, out=out)
            else:
                np.tanh(out, out=out)
        np.dot(*self._last)
        return self._logits

    def predict(
        self, observation: NDArray[np.float32], mask: NDArray[np.bool_] | None = None
    ) -> int | NDArray[np.int64]:
        """The best action for one observation (d,): an index where it is flat, else one per sub-action (k,).

        `mask` (sum(nvec),): true where a choice is allowed; in each sub-action at least one must be.
        """
        logits = self.logits(observation)
        if mask is not None:
            np.logical_not(mask, out=self._blocked)
            logits[self._blocked] = -np.inf
        if self._flat:
            return int(logits.argmax())
        return np.array([segment.argmax() for segment in self._segments], np.int64)

    def reset(self, spec: BoardSpec, profile: Profile) -> None:
        """Start a flight.

        Raises:
            InputError: the policy was trained for another board, another profile or rungs of other accuracies.
        """
        header = self.header
        if header.board_hash != spec.hash:
            raise InputError.at(
                self.source,
                f"was trained for board {header.board!r} ({header.board_hash[:12]}), "
                f"this is {spec.name!r} ({spec.hash[:12]})",
                want="the clocks, units and rails must be the same: train on this board",
            )
        if header.profile_checksum != profile.checksum:
            raise InputError.at(
                self.source,
                f"was trained with profile {header.profile!r} ({header.profile_checksum[:12]}), "
                f"this is {profile.name!r} ({profile.checksum[:12]})",
                want="fly it with its own profile or train on this one",
            )
        try:
            codec = Codec.from_json(header.codec, spec)
        except (InputError, ArithmeticError, TypeError, ValueError) as error:
            raise InputError.at(self.source, f"header: {error}") from None
        if codec.observation_size != header.sizes[0] or list(codec.nvec) != header.nvec:
            raise InputError.at(
                self.source,
                f"{header.sizes[0]} inputs and choices {header.nvec} do not fit its codec",
                want=f"{codec.observation_size} inputs and choices {list(codec.nvec)}",
            )
        accuracies = [rung.accuracy for rung in profile.rungs]
        if codec.accuracy != accuracies:  # they are not in the table, so not in its checksum either
            learned, now = (", ".join(f"{x:g}" for x in values) for values in (codec.accuracy, accuracies))
            raise InputError.at(
                self.source,
                f"was trained for rungs of other accuracies ({learned}) than profile {profile.name!r} has ({now})",
                want="train on this one",
            )
        self._codec = codec

    def act(self, telemetry: Telemetry, demand: Demand) -> Knobs:
        """The knobs for the next interval; after `reset`."""
        codec = self._codec
        if codec is None:
            raise RuntimeError("reset() comes before act()")
        mask = codec.action_masks(demand) if self.header.masked else None
        return codec.knobs(self.predict(codec.observe(telemetry, demand), mask))
