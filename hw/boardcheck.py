"""What cannot be a board: what the tables of a board file say of each other; every refusal is one clear line.

What a table must be by itself is in `hw.boardtable`; both are called by `hw.boardfile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from hw.boardmodel import BoardModel, RealModel, Thermal, Throttle
from hw.errors import InputError
from hw.types import Clock

HOST = "host"  # this machine, whatever it is: its own file alone has that name
KERNELS = ("mainline", "vendor")
CLOCKS = ("auto", "cpufreq", "quota", "fixed")
METERS = ("none", "ina231", "ina3221", "rapl")
SAG = 0.02  # a measured rail may fall by so much below the highest voltage of the clocks below it


def check_model(path: Path, model: BoardModel) -> None:
    """InputError for a board whose tables do not go together."""
    spec = model.spec
    _check_own_name(path, spec.name)
    _check_names(path, "[[clock]]", [c.name for c in spec.clocks])
    _check_names(path, "[[unit]]", [u.name for u in spec.units])
    _check_names(path, "[[rail]], which must differ from the units' too", spec.rails)
    _check_names(path, "thermal_nodes", spec.thermal_nodes)
    for clock in spec.clocks:
        _check_clock(path, clock)
    _check_units(path, model)
    if model.variation.volts_low > model.variation.volts_high:
        want = f"at most volts_high, {model.variation.volts_high:g}"
        raise InputError.at(
            path, "[variation]: volts_low is above volts_high", value=model.variation.volts_low, want=want
        )
    _check_thermal(path, model.thermal, [u.name for u in model.units])
    _check_throttle(path, model.throttle, spec.clocks)
    if model.real is not None:
        _check_real(path, model, model.real)


def _check_own_name(path: Path, name: str) -> None:
    """It stands in the names of files and folders, and is searched for among them."""
    if not re.fullmatch(r"\w[\w .+-]{0,63}", name):
        want = "up to 64 letters, digits, spaces and _.+-, a letter or digit first"
        raise InputError.at(path, "this file: name is not a board's name", value=name, want=want)
    if name == HOST and path.stem != HOST:
        want = f"another name, or {HOST}.toml: this machine's own file"
        raise InputError.at(path, "this file: name is that of this machine", value=name, want=want)


def _check_names(path: Path, where: str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if not name.isprintable() or not name:
            raise InputError.at(path, f"{where}: not a name", value=name, want="letters and digits")
        if name in names[:i]:
            raise InputError.at(path, f"{where}: no name of its own", value=name, want="another name for each")


def _check_clock(path: Path, clock: Clock) -> None:
    where = f"[clock] {clock.name!r}"
    if not clock.freqs_hz or len(clock.freqs_hz) != len(clock.volts):
        counts = f"{len(clock.freqs_hz)} frequencies but {len(clock.volts)} voltages"
        raise InputError.at(path, f"{where}: {counts}", want="one voltage per frequency, one or more of them")
    _check_rise(path, f"{where}: freqs_hz", clock.freqs_hz)
    highest = 0.0
    for hertz, volts in zip(clock.freqs_hz, clock.volts, strict=True):
        if volts < highest * (1 - SAG):
            want = f"{highest:g} V or more, as below it (a measured rail may be {100 * SAG:g} % less)"
            raise InputError.at(path, f"{where}: volts fall at {hertz:g} Hz", value=volts, want=want)
        highest = max(highest, volts)


def _check_rise(path: Path, what: str, values: Iterable[float]) -> None:
    for low, high in pairwise(values):
        if high <= low:
            raise InputError.at(path, f"{what} must rise", value=high, want=f"more than {low:g}, which it follows")


def _check_units(path: Path, model: BoardModel) -> None:
    clocks = [c.name for c in model.spec.clocks]
    for unit in model.units:
        where = f"[unit] {unit.name!r}"
        if unit.clock not in clocks:
            want = f"clocks are {', '.join(clocks) or 'none'}"
            raise InputError.at(path, f"{where} names no clock of this board", value=unit.clock, want=want)
        if unit.kind not in ("cpu", "gpu"):
            raise InputError.at(path, f"{where}: no such kind", value=unit.kind, want='kind = "cpu" or "gpu"')
        if unit.kind == "gpu" and unit.cores != 1:
            raise InputError.at(path, f"{where}: cores of a GPU", value=unit.cores, want="1: it is shared as a whole")
        if unit.leak_per_k and unit.leak_activation_k:
            problem = f"{where}: leak_per_k and leak_activation_k are two laws for the same thing"
            raise InputError.at(path, problem, value=unit.leak_per_k, want="one of them")
    for name in clocks:
        if name not in [unit.clock for unit in model.units]:
            raise InputError.at(path, "a clock that drives no unit", value=name, want="name it in a [[unit]]")
    cpus = [unit for unit in model.units if unit.kind == "cpu"]
    if not cpus:
        raise InputError.at(path, "no [[unit]] is a CPU", want="one at least: it is where the kernel runs")
    big = [unit.name for unit in cpus if unit.big]
    if len(big) > 1:
        raise InputError.at(path, "[[unit]]: more than one is big", value=big[1], want="big = true once: the fastest")


def _check_thermal(path: Path, thermal: Thermal, units: Sequence[str]) -> None:
    for name, regime in (("fan_full", thermal.fan_full), ("fan_off", thermal.fan_off)):
        for key, values in (("r_k_per_w", regime.r_k_per_w), ("tau_s", regime.tau_s)):
            if len(values) != 2:
                want = "two numbers: the fast part and the slow one"
                raise InputError.at(path, f"[thermal.{name}]: {key}", value=list(values), want=want)
        if regime.spot_k_per_w and not thermal.spot_unit:
            want = "spot_unit and spot_nf in [thermal]: whose rail heats that spot"
            raise InputError.at(
                path, f"[thermal.{name}]: spot_k_per_w of no unit", value=regime.spot_k_per_w, want=want
            )
    if thermal.spot_unit and thermal.spot_unit not in units:
        want = f"units are {', '.join(units)}"
        raise InputError.at(path, "[thermal]: spot_unit is no unit of this board", value=thermal.spot_unit, want=want)
    _check_rise(path, "[thermal]: fan_trips_c", thermal.fan_trips_c)
    wanted = len(thermal.fan_trips_c) + 1
    if len(thermal.fan_duty) != wanted:
        want = f"{wanted} for {wanted - 1} fan_trips_c: one below the first and one from each trip"
        raise InputError.at(path, f"[thermal]: fan_duty has {len(thermal.fan_duty)} values", want=want)


def _check_throttle(path: Path, throttle: Sequence[Throttle], clocks: Sequence[Clock]) -> None:
    _check_rise(path, "[[throttle]]: trip_c", [trip.trip_c for trip in throttle])
    for below, trip in pairwise(throttle):
        most_k = trip.trip_c - below.trip_c + below.hysteresis_k
        if trip.hysteresis_k > most_k + 1e-9:  # rounding
            want = f"at most {most_k:g}: the trip below it must not let go before"
            problem = f"[throttle] at {trip.trip_c:g} C: hysteresis_k is too much"
            raise InputError.at(path, problem, value=trip.hysteresis_k, want=want)
    known: Mapping[str, Clock] = {clock.name: clock for clock in clocks}
    most = {clock.name: clock.max_hz for clock in clocks}
    for trip in throttle:
        where = f"[throttle] at {trip.trip_c:g} C"
        for name, cap_hz in trip.caps_hz.items():
            if name not in known:
                raise InputError.at(
                    path, f"{where}: caps no clock of this board", value=name, want=f"clocks are {', '.join(known)}"
                )
            if cap_hz < known[name].freqs_hz[0]:
                want = f"{known[name].freqs_hz[0]:g} Hz or more, its lowest frequency"
                raise InputError.at(path, f"{where}: the cap of {name!r} leaves no frequency", value=cap_hz, want=want)
        for name, cap_hz in most.items():
            now_hz = trip.caps_hz.get(name, known[name].max_hz)
            if now_hz > cap_hz:
                want = f"at most {cap_hz:g} Hz, as at the trip below"
                raise InputError.at(path, f"{where}: {name!r} may run faster again", value=now_hz, want=want)
            most[name] = now_hz


def _check_real(path: Path, model: BoardModel, real: RealModel) -> None:
    spec = model.spec
    gpus = [u.name for u in spec.units if u.kind == "gpu"]
    devices = [u.clock for u in spec.units if u.kind == "gpu"]
    for key, names, known, all_of_them in (
        ("cpus", real.cpus, [u.name for u in spec.units if u.kind == "cpu"], True),
        ("devfreq", real.devfreq, devices, True),
        ("gpu_load", real.gpu_load, gpus, True),
        ("zones", real.zones, list(spec.thermal_nodes), True),
        ("rails", real.rails, list(spec.rails), real.meter != "none"),
    ):
        wrong = [n for n in names if n not in known] or [n for n in known if all_of_them and n not in names]
        if wrong:
            want = f"one entry each for {', '.join(known) or 'nothing on this board'}"
            raise InputError.at(path, f"[real]: {key} does not fit this board", value=wrong[0], want=want)
    numbers = [n for cpus in real.cpus.values() for n in cpus]
    for unit in spec.units:
        cpus = real.cpus.get(unit.name, [])
        if unit.kind == "cpu" and (len(cpus) < unit.cores or min(cpus) < 0 or len(set(numbers)) < len(numbers)):
            want = f"{unit.cores} CPU numbers or more that no other unit has"
            raise InputError.at(path, f"[real]: cpus of {unit.name!r}", value=cpus, want=want)
    _check_files(path, real)
    for key, value, choice in (
        ("kernel", real.kernel, KERNELS),
        ("clock", real.clock, CLOCKS),
        ("meter", real.meter, METERS),
        ("total_rail", real.total_rail, ("", *real.rails)),
    ):
        if value not in choice:
            raise InputError.at(path, f"[real]: {key}", value=value, want=f"one of {', '.join(c for c in choice if c)}")


def _check_files(path: Path, real: RealModel) -> None:
    """A stranger's file names files of the kernel and no others."""
    for key, lists in (("devfreq", real.devfreq), ("gpu_load", real.gpu_load), ("zones", real.zones)):
        for name, listed in lists.items():
            if not listed:
                raise InputError.at(path, f"[real]: {key} of {name!r} is empty", want=f'one or more: {name} = ["..."]')
    devices = [(f"devfreq of {name!r}", device) for name, listed in real.devfreq.items() for device in listed]
    addresses = [(f"rails: {rail!r}", address) for rail, address in real.rails.items() if real.meter == "ina231"]
    for what, name in devices + addresses:
        if not re.fullmatch(r"[\w:,@+-][\w.:,@+-]*", name):
            want = "a name as in /sys: letters, digits and .:,@+- only"
            raise InputError.at(path, f"[real]: {what} is no name of a device", value=name, want=want)
    for unit, listed in real.gpu_load.items():
        for file in listed:
            if not file.startswith("sys/") or ".." in file.split("/") or not file.isprintable():
                want = 'a path below sys/, without ".."'
                raise InputError.at(path, f"[real]: gpu_load of {unit!r} is no file of /sys", value=file, want=want)
