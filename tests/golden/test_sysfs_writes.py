"""The conversation with a kernel, write by write: what each driver writes, in which order, in which unit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.errors import Missing, Refused
from hw.real.clocks import Cpufreq, Devfreq
from hw.real.settings import put_back
from hw.real.sysfs import Sysfs

CPU = "sys/devices/system/cpu"
GPU = "sys/devices/57000000.gpu/devfreq/57000000.gpu"


def tree(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")


def cpufreq(folder: str, *, governor: str = "ondemand", governors: str = "ondemand userspace") -> dict[str, str]:
    return {
        f"{folder}/affected_cpus": "4 5 6 7",
        f"{folder}/related_cpus": "4 5 6 7",
        f"{folder}/scaling_available_frequencies": "2000000 1400000 600000 200000 ",  # as vendor kernels list them
        f"{folder}/scaling_available_governors": governors,
        f"{folder}/scaling_driver": "cpufreq-dt",
        f"{folder}/scaling_governor": governor,
        f"{folder}/scaling_setspeed": "<unsupported>",
        f"{folder}/scaling_min_freq": "200000",
        f"{folder}/scaling_max_freq": "2000000",
        f"{folder}/scaling_cur_freq": "200000",
    }


def wait(seconds: float) -> None:
    """Nothing moves in a folder of plain files."""


def said(transcript: list[str], folder: str) -> list[str]:
    return [line.removeprefix(f"{folder}/") for line in transcript]


def fly(driver: Cpufreq | Devfreq, *ghz: float) -> None:
    before = driver.state()
    driver.take(driver.freqs_hz[0], driver.freqs_hz[-1])
    for f in ghz:
        driver.set(f * 1e9)
    assert put_back(driver.sysfs, before) == []


@pytest.mark.parametrize(
    "folder", [f"{CPU}/cpufreq/policy4", f"{CPU}/cpu4/cpufreq"], ids=["policy (mainline)", "per CPU (3.10, 4.9)"]
)
class TestCpufreq:
    def test_userspace(self, tmp_path: Path, folder: str) -> None:
        tree(tmp_path, cpufreq(folder))
        transcript: list[str] = []
        driver = Cpufreq(Sysfs(tmp_path, transcript=transcript), 4, wait)
        assert driver.freqs_hz == (2e8, 6e8, 1.4e9, 2e9)
        assert driver.record() == {
            "path": folder,
            "driver": "cpufreq-dt",
            "governor": "ondemand",
            "set by": "scaling_setspeed",
        }
        assert transcript == []
        fly(driver, 1.4, 0.6, 0.6)
        assert said(transcript, folder) == [
            "scaling_governor = userspace",
            "scaling_min_freq = 200000",
            "scaling_max_freq = 2000000",
            "scaling_setspeed = 1400000",
            "scaling_setspeed = 600000",
            "scaling_setspeed = 600000",  # it did not move, so it is asked again
            "scaling_governor = ondemand",
            "scaling_max_freq = 2000000",
            "scaling_min_freq = 200000",
        ]

    def test_limits(self, tmp_path: Path, folder: str) -> None:
        """The highest first on the way up, the lowest first on the way down."""
        tree(tmp_path, cpufreq(folder, governors="ondemand performance"))
        transcript: list[str] = []
        driver = Cpufreq(Sysfs(tmp_path, transcript=transcript), 4, wait)
        assert driver.record()["set by"] == "limits"
        fly(driver, 1.4, 0.6, 2.0)
        assert said(transcript, folder) == [
            "scaling_min_freq = 1400000",
            "scaling_max_freq = 1400000",
            "scaling_min_freq = 600000",
            "scaling_max_freq = 600000",
            "scaling_max_freq = 2000000",
            "scaling_min_freq = 2000000",
            "scaling_max_freq = 2000000",  # limits are written though they show it: what was set may not show
            "scaling_min_freq = 200000",
        ]

    def test_a_speed_that_a_person_had_set(self, tmp_path: Path, folder: str) -> None:
        files = cpufreq(folder, governor="userspace") | {
            f"{folder}/scaling_setspeed": "600000",
            f"{folder}/scaling_max_freq": "1400000",
            f"{folder}/scaling_cur_freq": "600000",
        }
        tree(tmp_path, files)
        transcript: list[str] = []
        fly(Cpufreq(Sysfs(tmp_path, transcript=transcript), 4, wait), 2.0)
        assert said(transcript, folder) == [
            "scaling_governor = userspace",
            "scaling_min_freq = 200000",
            "scaling_max_freq = 2000000",
            "scaling_setspeed = 2000000",
            "scaling_max_freq = 1400000",
            "scaling_min_freq = 200000",
            "scaling_setspeed = 600000",
        ]

    def test_limits_that_are_put_back_upwards(self, tmp_path: Path, folder: str) -> None:
        files = cpufreq(folder, governors="ondemand") | {f"{folder}/scaling_min_freq": "1400000"}
        tree(tmp_path, files)
        transcript: list[str] = []
        fly(Cpufreq(Sysfs(tmp_path, transcript=transcript), 4, wait), 0.2)
        assert said(transcript, folder) == [
            "scaling_min_freq = 200000",
            "scaling_max_freq = 200000",
            "scaling_max_freq = 2000000",
            "scaling_min_freq = 1400000",
        ]

    def test_without_a_list_the_counted_frequencies(self, tmp_path: Path, folder: str) -> None:
        files = cpufreq(folder)
        del files[f"{folder}/scaling_available_frequencies"]
        tree(tmp_path, files | {f"{folder}/stats/time_in_state": "2000000 17\n200000 4711"})
        assert Cpufreq(Sysfs(tmp_path), 4, wait).freqs_hz == (2e8, 2e9)


def test_devfreq(tmp_path: Path) -> None:
    files = {
        f"{GPU}/available_frequencies": "76800000 153600000 921600000",
        f"{GPU}/governor": "nvhost_podgov",
        f"{GPU}/min_freq": "76800000",
        f"{GPU}/max_freq": "921600000",
        f"{GPU}/cur_freq": "76800000",
    }
    tree(tmp_path, files)
    transcript: list[str] = []
    driver = Devfreq(Sysfs(tmp_path, transcript=transcript), ["gpu.0", "57000000.gpu"], wait)
    assert driver.record() == {"path": GPU, "governor": "nvhost_podgov", "set by": "limits"}
    fly(driver, 0.1536, 0.9216, 0.0768)
    assert said(transcript, GPU) == [
        "min_freq = 153600000",
        "max_freq = 153600000",
        "max_freq = 921600000",
        "min_freq = 921600000",
        "min_freq = 76800000",
        "max_freq = 76800000",
        "max_freq = 921600000",
        "min_freq = 76800000",
    ]
    assert {path: (tmp_path / path).read_text().strip() for path in files} == files


def test_a_write_that_is_not_taken_as_it_was_shows(tmp_path: Path) -> None:
    """A plain file takes anything, so the kernel is played by the read after the write."""
    folder = f"{CPU}/cpufreq/policy4"
    tree(tmp_path, cpufreq(folder))

    class Kernel(Sysfs):
        def write(self, path: str, text: str) -> None:
            super().write(path, "1800000" if path.endswith("setspeed") else text)

    driver = Cpufreq(Kernel(tmp_path), 4, wait)
    driver.take(2e8, 2e9)
    driver.set(2e9)
    assert driver.record()[f"{folder}/scaling_setspeed"] == "wrote 2000000, shows 1800000"
    assert driver.granted_hz() == 2e8, "what is in force counts, not what was asked for"


def test_a_governor_that_the_kernel_keeps_is_refused(tmp_path: Path) -> None:
    folder = f"{CPU}/cpufreq/policy4"
    tree(tmp_path, cpufreq(folder))

    class Kernel(Sysfs):
        def write(self, path: str, text: str) -> None:
            super().write(path, "ondemand" if path.endswith("governor") else text)

    with pytest.raises(Refused, match="scaling_governor: wrote userspace, shows ondemand"):
        Cpufreq(Kernel(tmp_path), 4, wait).take(2e8, 2e9)


def test_a_clock_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no cpufreq for cpu0"):
        Cpufreq(Sysfs(tmp_path), 0, wait)
    with pytest.raises(Missing, match=r"no devfreq device 57000000\.gpu"):
        Devfreq(Sysfs(tmp_path), ["57000000.gpu"], wait)
