"""Settings of a machine, brought back to the texts that they had: in an order that the kernel takes, and checked."""

from __future__ import annotations

from collections.abc import Mapping

from hw.errors import BoardError
from hw.real.sysfs import Sysfs

TRIES = 3
_LIMITS = {"scaling_min_freq": "scaling_max_freq", "min_freq": "max_freq"}


def put_back(sysfs: Sysfs, values: Mapping[str, str]) -> list[str]:
    """Bring files back to their texts; what could not be, a phrase each. Raises nothing.

    Governors first, so that the kernel is in charge again at once; then limits, in the order in which the lowest is
    never above the highest; a frequency that a person had set last: its governor must be there for it.
    A limit's file shows what is in force, which a hot kernel lowers, and keeps what was written for later: so a limit
    is always written, and is back once the kernel took it and shows no more.
    """
    left: dict[str, str] = {}
    for path in _in_order(sysfs, values):
        limit = path.rpartition("/")[2] in (*_LIMITS, *_LIMITS.values())
        for _ in range(TRIES):
            try:
                if limit or sysfs.read(path) != values[path]:
                    sysfs.write(path, values[path])
                shown = sysfs.read(path)
            except BoardError as error:
                left[path] = str(error)
                continue
            if shown == values[path] or (limit and _lower(shown, values[path])):
                left.pop(path, None)
                break
            left[path] = f"{sysfs.path(path)}: wrote {values[path]}, shows {shown}"
    return list(left.values())


def _lower(shown: str, written: str) -> bool:
    return shown.isdigit() and written.isdigit() and int(shown) < int(written)


def _in_order(sysfs: Sysfs, values: Mapping[str, str]) -> list[str]:
    def rank(path: str) -> int:
        name = path.rpartition("/")[2]
        return 0 if name.endswith("governor") else 2 if name == "scaling_setspeed" else 1

    order = sorted(values, key=rank)
    for low in values:
        folder, _, name = low.rpartition("/")
        high = f"{folder}/{_LIMITS.get(name)}"
        if high not in values:
            continue
        pair = [low, high] if _below(sysfs, values[high], low) else [high, low]
        places = sorted(order.index(path) for path in pair)
        for place, path in zip(places, pair, strict=True):
            order[place] = path
    return order


def _below(sysfs: Sysfs, text: str, path: str) -> bool:
    """Whether a limit is below what a file shows now; no, where that cannot be told."""
    try:
        return int(text) < int(sysfs.read(path))
    except (ValueError, BoardError):
        return False
