"""Every power source on a fake tree: the right energy, or none; a broken meter is never zero."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hw.boardmodel import RealModel
from hw.errors import Flaky, Missing
from hw.real.meters import FROZEN_S, Meter, find_source
from hw.real.sensors import Usage, Zones
from hw.real.sources import INA231, INA3221, RAPL, Source
from hw.real.sysfs import Sysfs
from tests.processes import until

I2C = "sys/bus/i2c"
XU3 = {"a7": "0045", "a15": "0040"}
NANO = {"a57": "POM_5V_CPU", "gpu": "POM_5V_GPU", "rest": "POM_5V_IN"}
PC = {"cpu": "package-0", "mem": "dram"}


class HandTime:
    """Moved by hand; a meter's own thread sleeps for ever in it, so every sample here is one that `take` makes."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        return stop.wait()


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


class Fake:
    """A meter's files: `show` makes them say these watts, after so many seconds."""

    def __init__(self, root: Path) -> None:
        self.root, self.sysfs = root, Sysfs(root)
        self.files: list[str] = []

    def source(self) -> Source:
        raise NotImplementedError

    def show(self, watts: dict[str, float], seconds: float) -> None:
        raise NotImplementedError

    def put(self, path: str, text: str) -> None:
        put(self.root, path, text)
        if path not in self.files:
            self.files.append(path)

    def spoil(self, text: str | None) -> None:
        for path in self.files:
            (self.root / path).unlink(missing_ok=True)
            if text is not None:
                put(self.root, path, text)


class VendorINA231(Fake):
    def source(self) -> Source:
        for k, address in enumerate(XU3.values()):
            put(self.root, f"{I2C}/drivers/INA231/4-{address}/enable", "0")
            put(self.root, f"{I2C}/drivers/INA231/4-{address}/sensor_name", f"sensor{k}")
            put(self.root, f"{I2C}/drivers/INA231/4-{address}/update_period", "263808 usec")
        self.show(dict.fromkeys(XU3, 0.0), 0.0)
        return INA231(self.sysfs, XU3)

    def show(self, watts: dict[str, float], seconds: float) -> None:
        for rail, power_w in watts.items():
            self.put(f"{I2C}/drivers/INA231/4-{XU3[rail]}/sensor_W", f"{power_w:.6f}")


class MainlineINA231(Fake):
    def source(self) -> Source:
        put(self.root, f"{I2C}/devices/3-0040/hwmon/hwmon7/update_interval", "35")
        put(self.root, f"{I2C}/devices/3-0045/hwmon/hwmon2/update_interval", "35")
        self.show(dict.fromkeys(XU3, 0.0), 0.0)
        return INA231(self.sysfs, XU3)

    def show(self, watts: dict[str, float], seconds: float) -> None:
        for rail, power_w in watts.items():
            number = 7 if rail == "a15" else 2
            path = f"{I2C}/devices/3-{XU3[rail]}/hwmon/hwmon{number}/power1_input"
            self.put(path, str(round(power_w * 1_000_000)))


class L4TINA3221(Fake):
    chip = f"{I2C}/drivers/ina3221x/6-0040/iio:device0"

    def source(self) -> Source:
        # an early device tree has the channels in this order: names count, numbers do not
        for k, name in enumerate(("POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU")):
            put(self.root, f"{self.chip}/rail_name_{k}", name)
        self.show(dict.fromkeys(NANO, 0.0), 0.0)
        return INA3221(self.sysfs, NANO, "rest")

    def show(self, watts: dict[str, float], seconds: float) -> None:
        for k, power_w in enumerate((watts["gpu"], sum(watts.values()), watts["a57"])):
            self.put(f"{self.chip}/in_power{k}_input", str(round(power_w * 1_000)))


class MainlineINA3221(Fake):
    chip = f"{I2C}/drivers/ina3221/6-0040/hwmon/hwmon4"

    def source(self) -> Source:
        for k, name in enumerate(("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")):
            put(self.root, f"{self.chip}/in{k + 1}_label", name)
        self.show(dict.fromkeys(NANO, 0.0), 0.0)
        return INA3221(self.sysfs, NANO, "rest")

    def show(self, watts: dict[str, float], seconds: float) -> None:
        for k, power_w in enumerate((sum(watts.values()), watts["gpu"], watts["a57"])):
            self.put(f"{self.chip}/in{k + 1}_input", "5000")
            self.put(f"{self.chip}/curr{k + 1}_input", str(round(power_w / 5 * 1_000)))


class PowerCap(Fake):
    range_uj = 262_143_328_850

    def source(self) -> Source:
        self.counts = dict.fromkeys(PC, self.range_uj - 1_000_000)  # a second of a watt before the end
        names = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "dram", "intel-rapl-mmio:0": "package-0"}
        for zone, name in names.items():
            put(self.root, f"sys/class/powercap/{zone}/name", name)
            put(self.root, f"sys/class/powercap/{zone}/max_energy_range_uj", str(self.range_uj))
            put(self.root, f"sys/class/powercap/{zone}/energy_uj", "0")
        self.show(dict.fromkeys(PC, 0.0), 0.0)
        return RAPL(self.sysfs, PC)

    def show(self, watts: dict[str, float], seconds: float) -> None:
        for rail, zone in (("cpu", "intel-rapl:0"), ("mem", "intel-rapl:0:0")):
            self.counts[rail] = (self.counts[rail] + round(watts[rail] * seconds * 1_000_000)) % self.range_uj
            self.put(f"sys/class/powercap/{zone}/energy_uj", str(self.counts[rail]))


FAKES = [VendorINA231, MainlineINA231, L4TINA3221, MainlineINA3221, PowerCap]


def rails_of(fake: Fake) -> dict[str, float]:
    names = PC if isinstance(fake, PowerCap) else NANO if "3221" in type(fake).__name__ else XU3
    return {rail: 0.5 * (k + 1) for k, rail in enumerate(names)}


@pytest.fixture(params=FAKES)
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Fake:
    made: Fake = request.param(tmp_path)
    return made


@pytest.fixture
def time() -> HandTime:
    return HandTime()


def started(fake: Fake, time: HandTime) -> Meter:
    meter = Meter(fake.source(), time)
    meter.start()
    fake.show(rails_of(fake), 0.0)
    meter.take()
    return meter


def run(fake: Fake, time: HandTime, meter: Meter, seconds: float, factor: float = 1.0) -> None:
    """So much time at so much power, looked at every 50 ms as the meter's thread would."""
    for _ in range(round(seconds / 0.05)):
        time.sleep(0.05)
        fake.show({rail: factor * power_w for rail, power_w in rails_of(fake).items()}, 0.05)
        with meter._lock:
            meter._sample()


def test_energy_is_power_times_time(fake: Fake, time: HandTime) -> None:
    meter = started(fake, time)
    for factor in (1.0, 3.0):  # and wraps around: RAPL's counters end within the first second
        run(fake, time, meter, 1.0, factor)
        reading = meter.take()
        assert reading.energy_j == pytest.approx({r: factor * w for r, w in rails_of(fake).items()}, rel=1e-6)
        assert reading.age_s == pytest.approx(meter.source.window_s if meter.source else 0.0)
    meter.close()
    meter.close()


@pytest.mark.parametrize("text", ["nan", "inf", "", "g@rb4ge", "1_000", "-5000000", "1e30", None])
def test_a_broken_value_is_missing(fake: Fake, time: HandTime, text: str | None) -> None:
    if isinstance(fake, PowerCap) and text in ("-5000000", "1e30"):
        pytest.skip("a counter may stand anywhere")
    meter = started(fake, time)
    run(fake, time, meter, 1.0)
    meter.take()
    fake.spoil(text)
    time.sleep(1.0)
    reading = meter.take()
    assert reading.energy_j is None
    assert reading.age_s == pytest.approx(1.0 + (meter.source.window_s if meter.source else 0.0))
    assert meter.trouble
    fake.show(rails_of(fake), 0.0)
    run(fake, time, meter, 0.5)
    meter.take()
    run(fake, time, meter, 0.5)
    reading = meter.take()
    assert reading.energy_j == pytest.approx({r: 0.5 * w for r, w in rails_of(fake).items()}, rel=1e-6)
    assert meter.trouble is None
    meter.close()


def test_a_short_gap_is_bridged(fake: Fake, time: HandTime) -> None:
    meter = started(fake, time)
    run(fake, time, meter, 0.45)
    fake.spoil("?")
    with meter._lock:
        meter._sample()
    fake.show(rails_of(fake), 0.0)
    run(fake, time, meter, 0.05)
    assert meter.take().energy_j == pytest.approx({r: 0.5 * w for r, w in rails_of(fake).items()}, rel=1e-6)
    meter.close()


def test_a_meter_that_stands_still_is_missing(fake: Fake, time: HandTime) -> None:
    meter = started(fake, time)
    for k in range(20):
        for _ in range(10):
            time.sleep(0.05)
            with meter._lock:
                meter._sample()
        reading = meter.take()
        still_s = (k + 1) * 0.5
        if still_s != FROZEN_S:  # there, the last digit decides
            assert (reading.energy_j is None) == (still_s > FROZEN_S)
    assert reading.age_s == pytest.approx(10.0 + (meter.source.window_s if meter.source else 0.0))
    assert "the same digits" in str(meter.trouble)
    meter.close()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_counter_that_begins_anew_is_no_wrap(tmp_path: Path, time: HandTime, share: float) -> None:
    """As after a suspend; what it counts from then on is right again."""
    fake = PowerCap(tmp_path)
    meter = started(fake, time)
    fake.counts = dict.fromkeys(PC, fake.range_uj // 2)
    meter.take()
    run(fake, time, meter, 0.5)
    meter.take()
    run(fake, time, meter, 0.2)
    fake.counts = dict.fromkeys(PC, round(share * fake.range_uj))
    run(fake, time, meter, 0.05)
    assert "cpu says" in str(meter.trouble)
    run(fake, time, meter, 0.2)
    assert meter.take().energy_j is None, "a tenth of it and more is not known"
    run(fake, time, meter, 0.5)
    assert meter.take().energy_j == pytest.approx({r: 0.5 * w for r, w in rails_of(fake).items()}, rel=1e-6)
    fake.counts["cpu"] += 100_000  # a step of the counter, just before it is read once more
    fake.show(dict.fromkeys(PC, 0.0), 0.0)
    time.sleep(1e-5)
    assert meter.take().energy_j is not None
    meter.close()


def test_the_hottest_of_two_zones_of_a_type(tmp_path: Path) -> None:
    for k, temp in enumerate(("90000", "50000", "60000")):
        put(tmp_path, f"sys/class/thermal/thermal_zone{k}/type", "x86_pkg_temp" if k < 2 else "acpitz")
        put(tmp_path, f"sys/class/thermal/thermal_zone{k}/temp", temp)
    zones = Zones(Sysfs(tmp_path), {"cpu": ["x86_pkg_temp"], "board": ["none", "acpitz"]})
    assert zones.temps_c() == {"cpu": 90.0, "board": 60.0}


@pytest.mark.parametrize("broken", ["-273000", "-40001", "150001", "200000", ""])
def test_what_is_no_temperature_of_a_board_is_not_believed(tmp_path: Path, broken: str) -> None:
    for k, temp in enumerate((broken, "45000")):
        put(tmp_path, f"sys/class/thermal/thermal_zone{k}/type", "soc")
        put(tmp_path, f"sys/class/thermal/thermal_zone{k}/temp", temp)
    zones = Zones(Sysfs(tmp_path), {"soc": ["soc"]})
    assert zones.temps_c() == {"soc": 45.0}
    put(tmp_path, "sys/class/thermal/thermal_zone1/temp", broken)
    with pytest.raises(Flaky, match="C is no temperature of a board" if broken else "zone1/temp: "):
        zones.temps_c()


def test_a_core_that_waits_for_a_disk_is_not_busy_and_a_guest_works_once(tmp_path: Path) -> None:
    put(tmp_path, "proc/stat", "cpu0 7 7 7 7 7 7 7 7 7 7\ncpu1 7 7 7 7 7 7 7 7 7 7")
    usage = Usage(Sysfs(tmp_path), {"cpu": (0, 1)}, {})
    # user nice system idle iowait irq softirq steal: a hundred more each; then the guests, who are users already
    put(tmp_path, "proc/stat", "cpu0 35 8 8 47 37 7 7 7 35 8\ncpu1 7 7 7 27 37 12 17 42 7 7")
    assert usage.shares() == ({"cpu": 0.4}, {"cpu": 0.5})


def test_the_vendor_switch_is_the_only_write(tmp_path: Path, time: HandTime) -> None:
    transcript: list[str] = []
    fake = VendorINA231(tmp_path)
    fake.sysfs = Sysfs(tmp_path, transcript=transcript)
    source = fake.source()
    assert source.window_s == pytest.approx(0.263808)
    assert transcript == []
    meter = Meter(source, time)
    meter.start()
    assert transcript == [f"{path} = 1" for path in source.files]
    assert len(source.files) == 2
    meter.close()


def test_a_little_less_than_nothing_is_nothing(tmp_path: Path) -> None:
    fake = L4TINA3221(tmp_path)
    source = fake.source()
    put(tmp_path, f"{fake.chip}/in_power2_input", "-8")
    assert source.joules(1.0)["a57"] == 0.0


def test_the_total_is_never_less_than_its_parts(tmp_path: Path) -> None:
    fake = L4TINA3221(tmp_path)
    source = fake.source()
    put(tmp_path, f"{fake.chip}/in_power2_input", "900")
    assert source.joules(1.0) == {"a57": 0.9, "gpu": 0.0, "rest": 0.0}


def real(meter: str, rails: dict[str, str], total: str = "") -> RealModel:
    return RealModel(kernel="mainline", cpus={}, zones={}, meter=meter, rails=rails, total_rail=total)


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (VendorINA231, real("ina231", XU3)),
        (MainlineINA231, real("ina231", XU3)),
        (L4TINA3221, real("ina3221", NANO, "rest")),
        (MainlineINA3221, real("ina3221", NANO, "rest")),
        (PowerCap, real("rapl", PC)),
    ],
)
def test_a_source_is_found_by_what_the_board_file_says(
    tmp_path: Path, make: Callable[[Path], Fake], model: RealModel
) -> None:
    assert find_source(Sysfs(tmp_path), model) is None, "an XU4, a 2GB Nano: the chip is not there"
    fake = make(tmp_path)
    expected = fake.source()
    found = find_source(fake.sysfs, model)
    assert type(found) is type(expected)


def test_no_meter_is_a_meter_too(tmp_path: Path, time: HandTime) -> None:
    meter = Meter(find_source(Sysfs(tmp_path), real("none", {})), time)
    meter.start()
    reading = meter.take()
    assert reading.energy_j is None
    assert reading.age_s is None
    meter.close()


def test_a_channel_that_is_not_there_is_named(tmp_path: Path) -> None:
    fake = L4TINA3221(tmp_path)
    fake.source()
    with pytest.raises(Missing, match="no INA3221 channel VDD_IN for rail rest; found POM_5V_CPU, POM_5V_GPU"):
        INA3221(fake.sysfs, {"rest": "VDD_IN"}, "")
    with pytest.raises(Missing, match="no INA231 at address 0041 for rail mem"):
        INA231(fake.sysfs, {"mem": "0041"})
    with pytest.raises(Missing, match="no zone psys for rail all; found none"):
        RAPL(fake.sysfs, {"all": "psys"})


class RealTime:
    """A clock that runs by itself, fast."""

    def __init__(self) -> None:
        self.time_s, self.samples = 0.0, 0

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        self.samples += 1
        return stop.wait(0.001)


def test_the_thread_samples_by_itself_and_ends(tmp_path: Path) -> None:
    fake, time = MainlineINA231(tmp_path), RealTime()
    meter = Meter(fake.source(), time)
    threads = threading.active_count()
    meter.start()
    meter.start()
    assert threading.active_count() == threads + 1
    until(lambda: time.samples >= 5)
    meter.close()
    assert threading.active_count() == threads
