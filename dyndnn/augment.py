"""Batches of images: the whole set in memory as packed pixels, augmented by arithmetic on indices.

A pixel's channels (at most four) share one 32-bit number. Crop, flip and cutout of a whole batch only decide
which pixel goes where, so they are sums and comparisons of (n, height, width) indices and one gather; its result
is channels-last already. Everything random is drawn from a generator that the caller gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dyndnn.errors import NetworkError
from dyndnn.train_config import Padding

PACKED_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What happens to a training image; the default is nothing."""

    crop: int = 0  # pixels by which an image is padded on every side before a crop of its own size
    padding: Padding = "reflect"  # what the crop sees outside: the mirrored image, or the mean pixel
    flip: bool = False  # left and right, every second image
    cutout: int = 0  # side of a square that becomes the mean pixel, centred anywhere
    color: float = 0.0  # contrast within 1 +- this; every channel's brightness shifted within +- this (x std)


class Batches:
    """A labelled set on a device, handed out in batches."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        n, self.channels, self.height, self.width = images.shape
        if self.channels > PACKED_CHANNELS:
            want = f"at most {PACKED_CHANNELS}"
            raise NetworkError.at("images", "have too many channels", value=self.channels, want=want)
        packed = np.zeros((n * self.height * self.width + 1, PACKED_CHANNELS), np.uint8)
        packed[:-1, : self.channels] = images.transpose(0, 2, 3, 1).reshape(-1, self.channels)
        packed[-1, : self.channels] = np.rint(np.array(mean) * 255)  # what lies outside of an image
        self.pixels = torch.from_numpy(packed.view(np.int32)[:, 0].copy()).to(device)
        self.labels = torch.from_numpy(labels.copy()).to(device)
        scale, shift = 1 / (255 * np.array(std)), -np.array(mean) / np.array(std)
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)
        self.shift = torch.tensor(shift, dtype=torch.float32, device=device)
        self.device, self.dtype = device, dtype

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, as it is."""
        for start in range(0, len(self), batch):
            picked = torch.arange(start, min(start + batch, len(self)), device=self.device)
            yield self._images(picked, Augment(), None), self.labels[picked]

    def steps(self, batch: int) -> int:
        """How many batches `shuffled` gives."""
        return max(1, len(self) // batch)

    def shuffled(self, batch: int, augment: Augment, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, augmented, in random order; what does not fill the last batch is left out."""
        order = torch.randperm(len(self), generator=rng).to(self.device)
        for step in range(self.steps(batch)):
            picked = order[step * batch : (step + 1) * batch]
            yield self._images(picked, augment, rng), self.labels[picked]

    def _images(self, picked: Tensor, augment: Augment, rng: torch.Generator | None) -> Tensor:
        """Images (n, channels, height, width) of the picked numbers, normalised, channels last."""
        n, height, width = len(picked), self.height, self.width

        def draw(low: int, high: int) -> Tensor:
            return torch.randint(low, high + 1, (n, 1), generator=rng).to(self.device)

        rows = torch.arange(height, device=self.device).expand(n, height)
        columns = torch.arange(width, device=self.device).expand(n, width)
        hidden: list[Tensor] = []
        if augment.flip:
            mirrored = draw(0, 1)
            columns = columns + mirrored * (width - 1 - 2 * columns)
        if augment.crop:
            rows = rows + draw(-augment.crop, augment.crop)
            columns = columns + draw(-augment.crop, augment.crop)
            if augment.padding == "zero":
                hidden.append(_either((rows < 0) | (rows >= height), (columns < 0) | (columns >= width)))
                rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
            else:
                rows = height - 1 - (height - 1 - rows.abs()).abs()
                columns = width - 1 - (width - 1 - columns.abs()).abs()
        if augment.cutout:
            down, across = draw(0, height - 1), draw(0, width - 1)
            low, high = augment.cutout // 2, augment.cutout - augment.cutout // 2
            tall, wide = (torch.arange(side, device=self.device) for side in (height, width))
            in_rows = (tall >= down - low) & (tall < down + high)
            in_columns = (wide >= across - low) & (wide < across + high)
            hidden.append(in_rows[:, :, None] & in_columns[:, None, :])
        index = (picked[:, None] * (height * width) + rows * width)[:, :, None] + columns[:, None, :]
        for mask in hidden:
            index = index.masked_fill_(mask, len(self.pixels) - 1)
        packed = self.pixels[index.reshape(-1)].view(torch.uint8).reshape(n, height, width, PACKED_CHANNELS)
        scale, shift = self.scale, self.shift
        if augment.color:
            amount = torch.rand((n, 1, 1, 1 + self.channels), generator=rng).to(self.device) * 2 - 1
            gain = 1 + augment.color * amount[..., :1]
            scale, shift = scale * gain, shift * gain + augment.color * amount[..., 1:]
        x = torch.addcmul(shift, packed[..., : self.channels], scale).to(self.dtype)
        return x.permute(0, 3, 1, 2)  # (n, channels, height, width), channels last in memory


def _either(rows: Tensor, columns: Tensor) -> Tensor:
    """(n, height, width): true where the row or the column is."""
    return rows[:, :, None] | columns[:, None, :]
