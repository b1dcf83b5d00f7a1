"""Clocks of a machine that is no board: the cpufreq of all its cores as one, and none at all."""

from __future__ import annotations

from collections.abc import Sequence

from hw.errors import Missing
from hw.real.clocks import Cpufreq


class Together:
    """The clocks of several cores as one: a frequency of it is one that all of them have."""

    def __init__(self, drivers: Sequence[Cpufreq]) -> None:
        """Cores that share a policy count once. Raises Missing where no frequency is common to all."""
        self._drivers = list({driver.folder: driver for driver in drivers}.values())
        common = set.intersection(*(set(driver.freqs_hz) for driver in self._drivers))
        if not common:
            raise Missing("these cores have no clock frequency in common, so they are not one unit")
        self.freqs_hz = tuple(sorted(common))

    @property
    def limit_hz(self) -> float:
        """The highest frequency that may be set on all of them now (Hz)."""
        return min(driver.limit_hz for driver in self._drivers)

    def record(self) -> dict[str, str]:
        """What was found, of the first core's."""
        return {**self._drivers[0].record(), "policies": str(len(self._drivers))}

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that may be written."""
        return tuple(path for driver in self._drivers for path in driver.files)

    def state(self) -> dict[str, str]:
        """Every file that may change."""
        return {path: text for driver in self._drivers for path, text in driver.state().items()}

    def take(self, low_hz: float, high_hz: float) -> None:
        """Take all of them over; Refused where the kernel keeps one."""
        for driver in self._drivers:
            driver.take(low_hz, high_hz)

    def hidden(self, high_hz: float) -> dict[str, str]:
        """Of all of them."""
        return {path: text for driver in self._drivers for path, text in driver.hidden(high_hz).items()}

    def set(self, freq_hz: float) -> float:
        """Set all of them; the lowest that was granted (Hz)."""
        return min([driver.set(freq_hz) for driver in self._drivers])

    def granted_hz(self) -> float:
        """The lowest one in force (Hz)."""
        return min(driver.granted_hz() for driver in self._drivers)


class FixedClock:
    """A clock that nobody can set: one step."""

    def __init__(self, freq_hz: float) -> None:
        """`freq_hz`: what that step is called."""
        self.freqs_hz = (freq_hz,)

    @property
    def limit_hz(self) -> float:
        """The step (Hz)."""
        return self.freqs_hz[0]

    def record(self) -> dict[str, str]:
        """What was found: nothing."""
        return {"path": "none", "driver": "none: one fixed step", "governor": "none", "set by": "nothing"}

    @property
    def files(self) -> tuple[str, ...]:
        """Nothing is written."""
        return ()

    def state(self) -> dict[str, str]:
        """Nothing is changed."""
        return {}

    def take(self, low_hz: float, high_hz: float) -> None:
        """Nothing to take."""

    def hidden(self, high_hz: float) -> dict[str, str]:
        """Nothing is."""
        return {}

    def set(self, freq_hz: float) -> float:
        """The step (Hz), whatever was asked."""
        return self.freqs_hz[0]

    def granted_hz(self) -> float:
        """The step (Hz)."""
        return self.freqs_hz[0]
