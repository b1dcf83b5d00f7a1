"""A machine with a few settings, and what a controller changes of them: for tests of what is left behind."""

from __future__ import annotations

from pathlib import Path

from hw.real.state import Hold

POLICY = "sys/devices/system/cpu/cpufreq/policy0"
GPU = "sys/class/devfreq/gpu"
FILES = {
    f"{POLICY}/scaling_governor": "schedutil",
    f"{POLICY}/scaling_min_freq": "200000",
    f"{POLICY}/scaling_max_freq": "1400000",
    f"{GPU}/min_freq": "76800000",
    f"{GPU}/max_freq": "921600000",
    "sys/enable": "0",
}
CHANGED = {
    f"{POLICY}/scaling_governor": "userspace",
    f"{POLICY}/scaling_min_freq": "1200000",
    f"{POLICY}/scaling_max_freq": "1200000",
    f"{GPU}/max_freq": "153600000",
    "sys/enable": "1",
}


def put(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")


def shown(root: Path) -> dict[str, str]:
    return {path: (root / path).read_text().strip() for path in FILES}


def take(hold: Hold, root: Path) -> None:
    hold.take(lambda: shown(root))
