"""Settings are put back in an order that a kernel takes, also where heat hides its limits."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from hw.errors import Refused
from hw.real.clocks import Cpufreq
from hw.real.settings import put_back
from hw.real.state import Hold, load_state, state_file
from hw.real.sysfs import Sysfs
from tests.machine import CHANGED, FILES, GPU, POLICY, put, shown


class Kernel(Sysfs):
    """An old kernel, which refuses a lowest limit above the highest; the moment's limits must always be in order."""

    def write(self, path: str, text: str) -> None:
        folder, _, name = path.rpartition("/")
        if name in ("scaling_min_freq", "scaling_max_freq"):
            limits = {n: int(self.read(f"{folder}/{n}")) for n in ("scaling_min_freq", "scaling_max_freq")}
            limits[name] = int(text)
            if limits["scaling_min_freq"] > limits["scaling_max_freq"]:
                raise Refused(f"{path}: Invalid argument")
        if name == "scaling_setspeed" and self.read(f"{folder}/scaling_governor") != "userspace":
            raise Refused(f"{path}: Invalid argument")
        super().write(path, text)


LIMITS = [(low, high) for low, high in product((200, 600, 1000, 1400), repeat=2) if low <= high]


@pytest.mark.parametrize("found", LIMITS)
@pytest.mark.parametrize("left", LIMITS)
def test_limits_go_back_in_an_order_that_the_kernel_takes(
    tmp_path: Path, found: tuple[int, int], left: tuple[int, int]
) -> None:
    low, high = f"{POLICY}/scaling_min_freq", f"{POLICY}/scaling_max_freq"
    put(tmp_path, {low: str(left[0]), high: str(left[1])})
    assert put_back(Kernel(tmp_path), {low: str(found[0]), high: str(found[1])}) == []
    assert [int((tmp_path / path).read_text()) for path in (low, high)] == list(found)


def test_a_speed_that_was_set_needs_its_governor_first(tmp_path: Path) -> None:
    values = {f"{POLICY}/scaling_setspeed": "600000", f"{POLICY}/scaling_governor": "userspace"}
    put(tmp_path, {f"{POLICY}/scaling_setspeed": "<unsupported>", f"{POLICY}/scaling_governor": "ondemand"})
    assert put_back(Kernel(tmp_path), values) == []
    assert (tmp_path / f"{POLICY}/scaling_setspeed").read_text() == "600000\n"


def test_what_is_as_it_was_is_not_written_but_for_limits(root: Path) -> None:
    """What a limit shows is not what somebody wrote there last."""
    transcript: list[str] = []
    put(root, {"sys/enable": "1"})
    assert put_back(Sysfs(root, transcript=transcript), FILES) == []
    assert [line for line in transcript if "_freq" not in line] == ["sys/enable = 0"]
    assert sorted(line for line in transcript if "_freq" in line) == sorted(
        f"{path} = {text}" for path, text in FILES.items() if "_freq" in path
    )


class Hot(Sysfs):
    """A kernel that caps for heat: a limit shows the lower of what was written and the cap, and keeps what was."""

    cap = 10**10

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: dict[str, str] = {}

    def read(self, path: str) -> str:
        text = self.asked.get(path, super().read(path))
        return str(min(int(text), self.cap)) if path.endswith(("min_freq", "max_freq")) else text

    def write(self, path: str, text: str) -> None:
        self.asked[path] = text


def test_a_limit_is_back_though_heat_shows_a_lower_one(root: Path) -> None:
    sysfs, limit = Hot(root), f"{POLICY}/scaling_max_freq"
    sysfs.cap = 1200000
    assert put_back(sysfs, FILES) == []
    sysfs.cap = 300000000  # of the GPU's, which is in Hz
    assert put_back(sysfs, FILES) == []
    sysfs.cap = 10**10
    assert {path: sysfs.read(path) for path in FILES} == FILES
    sysfs.asked[limit], sysfs.cap = "2000000", 1400000  # it shows what is to be put back, and is not
    assert put_back(sysfs, FILES) == []
    assert sysfs.asked[limit] == "1400000"


@pytest.mark.parametrize(("found", "cap", "left"), [(2000, 1800, 2000), (1400, 1800, 1400), (1400, 9000, 1400)])
def test_a_cap_is_not_taken_for_a_limit(root: Path, found: int, cap: int, left: int) -> None:
    """Heat caps the clock when it is taken; the limit that somebody set below the cap is that all the same."""
    limit, table = f"{POLICY}/scaling_max_freq", "200000 1400000 1800000 2000000"
    put(root, {limit: f"{found}000", f"{POLICY}/related_cpus": "0", f"{POLICY}/scaling_available_frequencies": table})
    put(root, {f"{POLICY}/scaling_cur_freq": "200000"})
    sysfs = Hot(root)
    sysfs.cap = 1000 * cap
    driver = Cpufreq(sysfs, 0, lambda _: None)
    hold = Hold(sysfs, "xu3")
    hold.take(driver.state)
    driver.take(2e8, 2e9)
    hold.correct(driver.hidden(2e9))
    driver.set(2e9)
    saved = load_state(state_file(root))
    assert saved == hold.saved
    assert put_back(sysfs, saved.values) == []
    hold.release()
    sysfs.cap = 10**10
    assert sysfs.read(limit) == f"{left}000"


def test_one_file_that_cannot_be_put_back_does_not_keep_the_others(root: Path) -> None:
    put(root, CHANGED)
    (root / GPU / "max_freq").unlink()
    left = put_back(Sysfs(root), FILES)
    assert len(left) == 1
    assert "max_freq: there is no such file" in left[0]
    put(root, {f"{GPU}/max_freq": FILES[f"{GPU}/max_freq"]})
    assert shown(root) == FILES
