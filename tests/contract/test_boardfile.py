"""A stranger's board file: what may be in it, and one clear line (file, key, value, what would be right) if not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hw.boardfile import BOARDS, board_names, load_board
from hw.errors import InputError

# every table once, two clocks, a CPU and a GPU
FILE = """
name = "mine"
title = "A board"
default_profile = "paper"
interval_s = 0.5
thermal_nodes = ["soc"]
reference_temp_c = 50.0
board_base_w = 2
fan_w = 0.4

[[clock]]
name = "cpu"
freqs_hz = [200000000, 1e9, 1.8e9]
volts = [0.916, 0.906, 1.174]
stall_s = 140e-6

[[clock]]
name = "gpu"
freqs_hz = [1e8, 9e8]
volts = [0.8, 1.05]

[[unit]]
name = "big"
clock = "cpu"
cores = 4
big = true
cluster_nf = 0.174
background_nf = 0.36
leak_a = 0.1171
leak_per_v = 3.33
leak_activation_k = 2118.0

[unit.latency]
mac_cycles = 0.5
weights_gbps = 3.0
parallel = 0.9

[[unit]]
name = "gpu"
clock = "gpu"
cores = 1
kind = "gpu"
cluster_nf = 1.2
background_nf = 1.6
leak_a = 0.2
leak_per_v = 0.0
leak_per_k = 0.016

[[rail]]
name = "mem"
base_w = 0.033
w_per_gbps = 0.063

[contention]
min_share = 0.5
stall_stretch = 0.35

[switching]
control_path_s = 1e-3
migration_s = 2e-3
rung_s = 0.0
energy_j = 1e-4

[thermal]
fan_full = { r_k_per_w = [3.45, 2.99], tau_s = [1.5, 30.0], offset_k = 4.0, spot_k_per_w = 5.0 }
fan_off = { r_k_per_w = [8.0, 8.0], tau_s = [1.0, 150.0], offset_k = 20.0 }
spot_unit = "big"
spot_nf = 0.8
fan_trips_c = [50.0, 60.0]
fan_duty = [0.0, 0.5, 0.9]
fan_hysteresis_k = 5.0

[[throttle]]
trip_c = 70.0
hysteresis_k = 10.0
caps_hz = { cpu = 1e9 }

[[throttle]]
trip_c = 85.0
hysteresis_k = 10.0
caps_hz = { cpu = 2e8, gpu = 1e8 }

[sensor]
window_s = 0.0352
step_w = 0.025
gain_std = 0.01
temp_step_c = 1.0

[variation]
volts_low = 0.93
volts_high = 1.04
leak_std = 0.2
heat_std = 0.1
latency_std = 0.03
"""


def changed(path: Path, old: str, new: str) -> Path:
    assert old in FILE, old
    path.write_text(FILE.replace(old, new, 1))
    return path


@pytest.mark.parametrize("name", board_names())
def test_the_boards_that_ship_are_boards(name: str) -> None:
    assert load_board(name).spec.name == name == load_board(BOARDS / f"{name}.toml").spec.name


def test_a_board_of_my_own(tmp_path: Path) -> None:
    """Whole numbers will do for others, a measured rail may fall by a few mV, tables that may be missing may be."""
    path = changed(tmp_path / "mine.toml", "", "")
    model = load_board(path)
    assert model.spec.clock("cpu").freqs_hz == (2e8, 1e9, 1.8e9) and model.board_base_w == 2.0
    assert model.spec.rails == ("big", "gpu", "mem") and model.stall_s == (140e-6, 0.0)
    assert model.units[0].latency is not None and model.units[0].latency.parallel == 0.9
    text = FILE
    path.write_text(FILE, encoding="utf-8-sig")  # a byte-order mark, as some editors write
    assert load_board(path).spec == model.spec
    for heading in ("[[rail]]", "[variation]", "[[throttle]]", "[[throttle]]", "[unit.latency]"):
        start = text.index(heading)
        end = text.find("\n\n", start)
        text = text[:start] + (text[end:] if end > 0 else "")
    path.write_text(text.replace('title = "A board"\n', "").replace('"mine"', '"Größe 2+ v1.0"'))
    model = load_board(path)
    assert model.spec.rails == ("big", "gpu") and model.throttle == () and model.units[0].latency is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # keys
        ('title = "A board"', "titel = 1", "value 'titel': unknown key in this file; known keys: name, title, default"),
        ("cluster_nf = 0.174", "cluster_pf = 174", "value 'cluster_pf': unknown key in [unit] 'big'; known keys: name"),
        ("stall_s = 140e-6", "stal_s = 140e-6", "value 'stal_s': unknown key in [clock] 'cpu'; known keys: name, freq"),
        ("mac_cycles", "macs", "value 'macs': unknown key in [unit.latency]; known keys: mac_cycles"),
        ("offset_k = 4.0", "offset_c = 4.0", "value 'offset_c': unknown key in [thermal.fan_full]; known keys: r_k"),
        ("temp_step_c", "temp_step_k", "value 'temp_step_k': unknown key in [sensor]"),
        ("interval_s = 0.5\n", "", "this file: the key 'interval_s' is missing; interval_s = a number"),
        ("leak_a = 0.1171\n", "", "[unit] 'big': the key 'leak_a' is missing; leak_a = a number"),
        ("volts = [0.8, 1.05]\n", "", "[clock] 'gpu': the key 'volts' is missing; volts = a list of numbers: [1.0, 2."),
        ("min_share = 0.5\n", "", "[contention]: the key 'min_share' is missing"),
        ("fan_off =", "spot =", "[thermal.fan_off] is missing or not a table; a table [thermal.fan_off]"),
        ("[switching]", "[sensors]", "value 'sensors': unknown key in this file"),
        # types
        ("cluster_nf = 0.174", 'cluster_nf = "0.174"', "value '0.174': [unit] 'big': cluster_nf is not a number; a nu"),
        ("cores = 4", "cores = 4.5", "value 4.5: [unit] 'big': cores is not a whole number; a whole number"),
        ("cores = 4", "cores = true", "value True: [unit] 'big': cores is not a whole number"),
        ("big = true", "big = 1", "value 1: [unit] 'big': big is not true or false; true or false"),
        ("fan_w = 0.4", "fan_w = false", "value False: this file: fan_w is not a number"),
        ("interval_s = 0.5", 'interval_s = "0.5 s"', "value '0.5 s': this file: interval_s is not a number"),
        ("[1e8, 9e8]", "9e8", "value 900000000.0: [clock] 'gpu': freqs_hz is not a list of numbers; a list of numbers"),
        ("[0.8, 1.05]", '[0.8, "1.05"]', "value [0.8, '1.05']: [clock] 'gpu': volts is not a list of numbers"),
        ('"soc"]', "1]", "value [1]: this file: thermal_nodes is not a list of texts"),
        ('name = "mine"', "name = 3", "value 3: this file: name is not a text in quotes, not empty"),
        ("[contention]", "[[contention]]", "this file: contention is not a table; a table"),
        ("[[rail]]", "[rail]", "this file: rail is not tables, each under a heading in double brackets"),
        ("{ cpu = 1e9 }", "1e9", "value 1000000000.0: [throttle]: caps_hz is not a table of numbers; a table of numbe"),
        ("{ cpu = 1e9 }", '{ cpu = "1e9" }', "[throttle]: caps_hz is not a table of numbers"),
        # numbers
        ("leak_a = 0.1171", "leak_a = nan", "value nan: [unit] 'big': leak_a is not finite; a finite number"),
        ("offset_k = 20.0", "offset_k = -inf", "value -inf: [thermal.fan_off]: offset_k is not finite"),
        ("[0.0, 0.5, 0.9]", "[0.0, nan, 0.9]", "value nan: [thermal]: fan_duty is not finite"),
        ("fan_w = 0.4", f"fan_w = 1{'0' * 400}", "this file: fan_w is not finite"),
        ("cluster_nf = 1.2", "cluster_nf = -1.2", "value -1.2: [unit] 'gpu': cluster_nf is out of range; nF, 0 to 100"),
        ("background_nf = 0.36", "background_nf = -0.1", "[unit] 'big': background_nf is out of range; nF, 0 to 100"),
        ("[8.0, 8.0]", "[8.0, -8.0]", "value -8.0: [thermal.fan_off]: r_k_per_w is out of range; K/W, 0 to 1000"),
        ("[1.5, 30.0]", "[0.0, 30.0]", "value 0.0: [thermal.fan_full]: tau_s is out of range; seconds above 0"),
        ("base_w = 0.033", "base_w = -1", "value -1: [rail] 'mem': base_w is out of range; W, 0 to 1000"),
        ("window_s = 0.0352", "window_s = 0", "value 0: [sensor]: window_s is out of range; seconds above 0"),
        ("interval_s = 0.5", "interval_s = 0", "value 0: this file: interval_s is out of range; seconds from 0"),
        ("interval_s = 0.5", "interval_s = 500", "value 500: this file: interval_s looks like ms; seconds from 0.001"),
        ("cluster_nf = 0.174", "cluster_nf = 178.8", "value 178.8: [unit] 'big': cluster_nf looks like pF; nF, 0 to 1"),
        ("background_nf = 0.36", "background_nf = 348", "value 348: [unit] 'big': background_nf looks like pF; nF, 0"),
        ("leak_a = 0.1171", "leak_a = 101.9", "value 101.9: [unit] 'big': leak_a looks like mA; A at 1 V and 50 C"),
        ("heat_std = 0.1", "heat_std = 10", "value 10: [variation]: heat_std looks like per cent; standard deviation"),
        ("leak_std = 0.2", "leak_std = 20", "value 20: [variation]: leak_std looks like per cent"),
        ("latency_std = 0.03", "latency_std = 3", "value 3: [variation]: latency_std looks like per cent"),
        ("gain_std = 0.01", "gain_std = 1e3", "value 1000.0: [sensor]: gain_std is out of range"),
        ("fan_w = 0.4", "fan_w = 4000", "value 4000: this file: fan_w looks like mW; W, 0 to 1000"),
        ("[8.0, 8.0]", "[8.0, 8e3]", "value 8000.0: [thermal.fan_off]: r_k_per_w is out of range; K/W, 0 to 1000"),
        ("min_share = 0.5", "min_share = 0.0", "[contention]: min_share is out of range; a share above 0, at most 1"),
        ("[0.0, 0.5, 0.9]", "[0.0, 50, 90]", "value 50: [thermal]: fan_duty is out of range; a share from 0 to 1"),
        ("parallel = 0.9", "parallel = 1.9", "value 1.9: [unit.latency]: parallel is out of range; a share from 0 to"),
        ("cores = 4", "cores = 0", "value 0: [unit] 'big': cores is out of range; 1 or more"),
        ("trip_c = 70.0", "trip_c = 70000", "value 70000: [throttle]: trip_c is out of range; deg C from -50 to 200"),
        ("reference_temp_c = 50.0", "reference_temp_c = 323.15", "reference_temp_c is out of range; deg C from -50"),
        # clocks
        ("[200000000, 1e9, 1.8e9]", "[2e5, 1e6, 1.8e6]", "value 200000.0: [clock] 'cpu': freqs_hz looks like kHz; Hz:"),
        ("[200000000, 1e9, 1.8e9]", "[200, 1000, 1800]", "value 200: [clock] 'cpu': freqs_hz looks like MHz; Hz: 2e+0"),
        ("[200000000, 1e9, 1.8e9]", "[0.2, 1, 1.8]", "value 0.2: [clock] 'cpu': freqs_hz looks like GHz; Hz: 2e+08"),
        ("[1e8, 9e8]", "[1e8, 9e5]", "value 900000.0: [clock] 'gpu': freqs_hz looks like kHz; Hz: 9e+08 here"),
        ("[1e8, 9e8]", "[-1e8, 9e8]", "value -100000000.0: [clock] 'gpu': freqs_hz is out of range; Hz from 1e7 to"),
        ("[1e8, 9e8]", "[9e8, 1e8]", "value 100000000.0: [clock] 'gpu': freqs_hz must rise; more than 9e+08"),
        ("[1e8, 9e8]", "[9e8, 9e8]", "[clock] 'gpu': freqs_hz must rise"),
        ("[0.8, 1.05]", "[800, 1050]", "value 800: [clock] 'gpu': volts looks like mV; V from 0.3 to 2.5"),
        ("[0.8, 1.05]", "[0.8, 10.5]", "value 10.5: [clock] 'gpu': volts is out of range; V from 0.3 to 2.5"),
        ("[0.8, 1.05]", "[0.8]", "[clock] 'gpu': 2 frequencies but 1 voltages; one voltage per frequency"),
        ("[1e8, 9e8]\nvolts = [0.8, 1.05]", "[]\nvolts = []", "[clock] 'gpu': 0 frequencies but 0 voltages"),
        ("[0.8, 1.05]", "[1.05, 0.8]", "value 0.8: [clock] 'gpu': volts fall at 9e+08 Hz; 1.05 V or more, as below it"),
        ("[0.916, 0.906, 1.174]", "[0.916, 0.897, 1.174]", "value 0.897: [clock] 'cpu': volts fall at 1e+09 Hz"),
        ("[0.916, 0.906, 1.174]", "[1.0, 0.985, 0.975]", "value 0.975: [clock] 'cpu': volts fall at 1.8e+09 Hz; 1 V o"),
        # what the tables say of each other, and the name of the file
        ('"mine"', '"/etc/x"', "value '/etc/x': this file: name is not a board's name; up to 64 letters"),
        ('"mine"', r'"a\nb"', r"value 'a\nb': this file: name is not a board's name"),
        ('"mine"', '"../../x"', "value '../../x': this file: name is not a board's name"),
        ('"mine"', r'"a\\b"', r"value 'a\\b': this file: name is not a board's name"),
        ('"mine"', '"[*"', "value '[*': this file: name is not a board's name"),
        ('"mine"', '"x*"', "value 'x*': this file: name is not a board's name"),
        ('"mine"', '".hidden"', "value '.hidden': this file: name is not a board's name"),
        ('"mine"', r'"a\u202Eb"', r"value 'a\u202eb': this file: name is not a board's name"),
        ('"mine"', f'"{"x" * 65}"', "this file: name is not a board's name"),
        ('"mine"', '"host"', "value 'host': this file: name is that of this machine; another name, or host.toml: thi"),
        ('name = "gpu"\nfreqs', 'name = "cpu"\nfreqs', "value 'cpu': [[clock]]: no name of its own; another name for"),
        ('name = "gpu"\nclock', 'name = "big"\nclock', "value 'big': [[unit]]: no name of its own"),
        ('name = "mem"', 'name = "gpu"', "value 'gpu': [[rail]], which must differ from the units' too: no name of it"),
        ('name = "mem"', r'name = "m\n"', r"value 'm\n': [[rail]], which must differ from the units' too: not a na"),
        ('["soc"]', '["soc", "soc"]', "value 'soc': thermal_nodes: no name of its own"),
        ('clock = "cpu"', 'clock = "a15"', "value 'a15': [unit] 'big' names no clock of this board; clocks are cpu, g"),
        ('clock = "gpu"', 'clock = "cpu"', "value 'gpu': a clock that drives no unit; name it in a [[unit]]"),
        ('kind = "gpu"', 'kind = "npu"', "value 'npu': [unit] 'gpu': no such kind; kind = \"cpu\" or \"gpu\""),
        ("cores = 1\n", "cores = 2\n", "value 2: [unit] 'gpu': cores of a GPU; 1: it is shared as a whole"),
        ("cores = 4", 'cores = 1\nkind = "gpu"', "no [[unit]] is a CPU; one at least"),
        ('kind = "gpu"', "big = true", "value 'gpu': [[unit]]: more than one is big; big = true once"),
        ("leak_per_k = 0.016", "leak_per_k = 0.016\nleak_activation_k = 2e3", "leak_per_k and leak_activation_k are t"),
        ("[8.0, 8.0]", "[8.0]", "value [8.0]: [thermal.fan_off]: r_k_per_w; two numbers: the fast part and the slow o"),
        ("[50.0, 60.0]", "[60.0, 50.0]", "value 50.0: [thermal]: fan_trips_c must rise; more than 60"),
        ("[50.0, 60.0]", "[50.0, 60.0, 70.0]", "[thermal]: fan_duty has 3 values; 4 for 3 fan_trips_c"),
        ('spot_unit = "big"', 'spot_unit = "a15"', "value 'a15': [thermal]: spot_unit is no unit of this board; units"),
        ('spot_unit = "big"\n', "", "value 5.0: [thermal.fan_full]: spot_k_per_w of no unit; spot_unit and spot_nf in"),
        ("trip_c = 85.0", "trip_c = 65.0", "value 65.0: [[throttle]]: trip_c must rise; more than 70, which it"),
        ("trip_c = 85.0", "trip_c = 70.0", "value 70.0: [[throttle]]: trip_c must rise; more than 70"),
        ("85.0\nhysteresis_k = 10.0", "85.0\nhysteresis_k = 26.0", "value 26.0: [throttle] at 85 C: hysteresis_k is t"),
        ("{ cpu = 1e9 }", "{ a15 = 1e9 }", "value 'a15': [throttle] at 70 C: caps no clock of this board; clocks are"),
        ("{ cpu = 1e9 }", "{ cpu = 1e6 }", "value 1000000.0: [throttle]: caps_hz looks like kHz; Hz: 1e+09 here"),
        ("{ cpu = 1e9 }", "{ cpu = 1e8 }", "the cap of 'cpu' leaves no frequency; 2e+08 Hz or more, its lowest"),
        ("cpu = 2e8, ", "", "[throttle] at 85 C: 'cpu' may run faster again; at most 1e+09 Hz, as at the trip below"),
        ("volts_low = 0.93", "volts_low = 1.1", "value 1.1: [variation]: volts_low is above volts_high; at most volts"),
    ],
)  # fmt: skip
def test_a_wrong_board_file_is_one_clear_line(old: str, new: str, told: str, tmp_path: Path) -> None:
    path = changed(tmp_path / "mine.toml", old, new)
    with pytest.raises(InputError) as error:
        load_board(path)
    said = str(error.value)
    assert said.startswith(str(path)) and told in said and "\n" not in said, said


def test_what_is_no_board_file_at_all(tmp_path: Path) -> None:
    def refused(path: str | Path) -> str:
        with pytest.raises(InputError) as error:
            load_board(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    path = tmp_path / "mine.toml"
    assert "mine.toml: cannot be read: No such file" in refused(path)
    path.write_text("name = \n")
    assert "mine.toml: not a TOML file: Invalid value (at line 1" in refused(path)
    path.write_bytes(b"\x7fELF\xff\xfe")
    assert "mine.toml:1: is not UTF-8 text" in refused(path)
    path.write_text("fan_w = " + "[" * 20000)
    assert "mine.toml: not a TOML file: nested too deeply" in refused(path)
    for digits in ("9" * 5000, "0x" + "f" * 5000):
        path.write_text(f"fan_w = {digits}\n" + FILE.replace("fan_w = 0.4", ""))
        assert "mine.toml: not a TOML file: Exceeds the limit" in refused(path)
    path.write_text(FILE + FILE)
    assert "mine.toml: not a TOML file: " in refused(path)
    path.write_text("")
    assert "mine.toml: this file: the key 'name' is missing" in refused(path)
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert "folder.toml: cannot be read: Is a directory" in refused(folder)
    assert f"unknown board '{tmp_path}'; known: " in refused(tmp_path)
    assert "unknown board 'xu9'; known: " in refused("xu9")


def test_a_checksum_is_of_the_physics_and_of_no_path(tmp_path: Path) -> None:
    one, other, hotter = tmp_path / "one.toml", tmp_path / "other.toml", tmp_path / "hotter.toml"
    models = [load_board(changed(one, "", "")), load_board(changed(other, "", "# the same\n"))]
    assert models[0].checksum == models[1].checksum
    found = load_board(changed(hotter, "trip_c = 85.0", "trip_c = 84.0"))
    assert found.spec.hash == models[0].spec.hash and found.checksum != models[0].checksum


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mine"', '"other"'),
        ("1e9, 1.8e9", "1.1e9, 1.8e9"),
        ("cpu", "arm"),  # the clock's name, wherever it stands
        ('"big"', '"small"'),
        ('(?s)clock = "cpu"(.*)clock = "gpu"', r'clock = "gpu"\1clock = "cpu"'),
        ("cores = 4", "cores = 3"),
        ('kind = "gpu"', 'kind = "cpu"'),
        ('"mem"', '"ram"'),
        ("interval_s = 0.5", "interval_s = 0.25"),
    ],
)
def test_a_policy_is_another_board_s_where_what_is_set_or_seen_differs(old: str, new: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text(FILE)
    other.write_text(re.sub(old, new, FILE))
    assert load_board(one).spec.hash != load_board(other).spec.hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cluster_nf = 0.174", "cluster_nf = 0.175"),
        ("[0.8, 1.05]", "[0.8, 1.06]"),
        ("stall_s = 140e-6", "stall_s = 0.0"),
        ("board_base_w = 2", "board_base_w = 3"),
        ("step_w = 0.025", "step_w = 0.05"),
    ],
)
def test_a_policy_flies_on_where_only_the_physics_differ(old: str, new: str, tmp_path: Path) -> None:
    one, other = (load_board(changed(tmp_path / f"{new == x}.toml", old, x)) for x in (old, new))
    assert one.spec.hash == other.spec.hash and one.checksum != other.checksum
