"""profile_board.py as a person runs it: a tiny sweep of this very machine, a kill in the middle, and bad input."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import _profile_lint, _sweep, profile_board
from experiments._journal import Journal, Sample
from experiments._sweep import Effort, Sweep, operating_point, order
from hw.boardfile import load_board
from hw.catalog import open_board
from hw.errors import Flaky, InputError, Missing
from hw.profile import load_profile, need_power, open_profile, save_profile
from hw.profiletable import Key
from hw.real.hostfile import host_text
from hw.real.state import state_file
from hw.real.sysfs import Sysfs
from hw.real.workplan import load_plan
from hw.types import Demand, Knobs, Profile, Telemetry
from tests.here import need_state_folder
from tests.hostprofile import profile_of
from tests.vulkan import NO_DEVICE, NO_DRIVER

pytestmark = pytest.mark.usefixtures("this_machine")
SCRIPT = Path(profile_board.__file__)
TINY = ("--board", "host", "--quick", "--clock", "fixed", "--cores", "1")  # 4 points
TAKEN = "another controller holds this board"

Done = subprocess.CompletedProcess[str]


def command(*words: object) -> list[str]:
    return [sys.executable, "-W", "error", str(SCRIPT), *(str(w) for w in words)]


def run(cwd: Path, *words: object) -> Done:
    return subprocess.run(command(*words), cwd=cwd, capture_output=True, text=True, timeout=120)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def said_by(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def begun(cwd: Path, ended_by: signal.Signals) -> tuple[int, str]:
    """Begin a sweep and end it after its first point; its exit status and what it said on stderr."""
    need_state_folder()
    end_s = time.monotonic() + 60
    said = TAKEN
    while TAKEN in said and time.monotonic() < end_s:  # another test flies this machine
        with subprocess.Popen(command(*TINY, "--out", "out"), cwd=cwd, stderr=subprocess.PIPE, text=True) as process:
            while len(lines(cwd / "out" / "samples.jsonl")) < 2 and time.monotonic() < end_s and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(ended_by)
            _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Done]:
    """A folder of a sweep that was killed after its first point and gone on with; that point; what was said."""
    cwd = tmp_path_factory.mktemp("profile")
    journal = cwd / "out" / "samples.jsonl"
    _, said = begun(cwd, signal.SIGKILL)
    end_s = time.monotonic() + 60
    before = lines(journal)
    assert 2 <= len(before) <= 4, said
    with journal.open("a") as stream:
        stream.write('{"rung": 1, "un')  # what a power cut leaves
    done = run(cwd, *TINY, "--out", "out")
    while TAKEN in done.stderr and time.monotonic() < end_s:
        done = run(cwd, *TINY, "--out", "out")
    assert done.returncode == 0, done.stderr
    return cwd / "out", before, done


def test_a_killed_sweep_is_gone_on_with(swept: tuple[Path, list[str], Done]) -> None:
    out, before, done = swept
    after = lines(out / "samples.jsonl")
    assert after[: len(before)] == before and len(after) == 5  # its head and four points
    assert {p.name for p in out.iterdir()} == {
        *("host-measured.csv", "host-measured.toml", "host.toml", "worker.json", "samples.jsonl", "run.json")
    }
    assert "Written: out/host-measured.csv" in done.stdout
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done" and record["machine"]["clocks"]["cpu"]["driver"] == "none: one fixed step"


def test_ctrl_c_keeps_what_was_measured_and_puts_the_machine_back(tmp_path: Path) -> None:
    status, said = begun(tmp_path, signal.SIGINT)
    kept = len(lines(tmp_path / "out" / "samples.jsonl")) - 1
    assert 1 <= kept < 4
    assert status == 130 and said.splitlines()[-2:] == [
        f"{kept} of 4 measurements are kept; the same command goes on",
        "interrupted",
    ]
    assert "Traceback" not in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    assert not state_file("/").exists()


def test_the_profile_is_one(swept: tuple[Path, list[str], Done]) -> None:
    out, _, _ = swept
    spec = load_board(out / "host.toml").spec
    profile = load_profile(out / "host-measured.csv", spec)
    assert profile.kind == "measured" and len(profile.points) == len(profile.rungs) == 4
    means = [p.latency_mean_s for p in profile.points]
    assert all(p.samples >= 2 and p.latency_std_s > 0 for p in profile.points)
    assert 0.005 < means[0] < 1.0 and means[3] > 1.5 * means[0]
    how = str(profile.provenance["how"])
    assert "busy loop in place of a network" in how and "one fixed step" in how and "order drawn anew" in how
    assert profile.provenance["ladder"] == load_plan(out).ladder
    if profile.provenance.get("power") == "missing":
        with (out / "host-measured.csv").open(newline="") as stream:
            assert {row["power_w"] + row["power_cpu_w"] for row in csv.DictReader(stream)} == {""}
        with pytest.raises(Missing, match="has no power: the board has no meter"):
            need_power(profile)


def test_nothing_is_left_behind(swept: tuple[Path, list[str], Done]) -> None:
    out, _, _ = swept
    rounds = ",".join(str(n) for n in json.loads((out / "worker.json").read_text())["rounds"]).encode()
    end_s = time.monotonic() + 10.0
    while (left := [p for p in Path("/proc").glob("[0-9]*/cmdline") if rounds in said_by(p)]) and (
        time.monotonic() < end_s
    ):
        time.sleep(0.1)
    assert not left


def test_validate(swept: tuple[Path, list[str], Done], tmp_path: Path) -> None:
    out, _, _ = swept
    done = run(tmp_path, "--validate", out / "host-measured.csv")
    assert done.returncode == 0 and "measured, 4 points" in done.stdout, done.stderr
    for name in ("host.toml", "host-measured.toml"):
        (tmp_path / name).write_text((out / name).read_text())
    text = (out / "host-measured.csv").read_text()
    (tmp_path / "host-measured.csv").write_text(text.replace(",cpu,", ",gpu,", 1))
    done = run(tmp_path, "--validate", "host-measured.csv")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "unknown unit" in done.stderr


@pytest.mark.parametrize("words", [(), ("--board", "host"), ("--board", "host.toml")])
def test_a_profile_of_this_machine_is_looked_through_by_any_name_of_it(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("host.toml").write_text(host_text(Sysfs("/"), clock="fixed"))
    profile = profile_of("host", tmp_path / "host.toml", "missing")
    save_profile(profile, Path("host-x.csv"))
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, "--validate", "host-x.csv", *words])
    profile_board.main()
    odd, told = capsys.readouterr().out.splitlines()
    assert odd == "odd: power is missing, latency measured"
    assert told.startswith(f"host-x.csv: measured, {len(profile.points)} points, ")
    Path("host.toml").unlink()
    with pytest.raises(InputError, match=r"host\.toml"):
        profile_board.main()


def test_other_options_need_another_folder(swept: tuple[Path, list[str], Done], tmp_path: Path) -> None:
    out, _, _ = swept
    for words, problem in (
        (("--ladder", "digits"), "is of another ladder"),
        (("--power-model",), "is of a sweep with other options"),
    ):
        done = run(tmp_path, *TINY, *words, "--out", out)
        assert done.returncode == 2 and problem in done.stderr and done.stderr.count("\n") == 1, done.stderr
    done = run(tmp_path, "--board", "host", "--clock", "fixed", "--cores", "1", "--out", out)
    assert done.returncode == 2 and "is of a sweep with other options" in done.stderr
    assert len(lines(out / "samples.jsonl")) == 5


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "--board is missing"),
        (("--board", "host"), "--out is missing"),
        (("--board", "toaster", "--out", "x"), "unknown board 'toaster'"),
        (("--board", "jetson_nano", "--out", "x"), "has a GPU, 'gpu'; name a network with --ladder"),
        (("--board", "host", "--out", "x", "--cores", "5000"), "out of range; 1 to "),
        (("--board", "host", "--out", "x", "--clock", "sundial"), "one of auto, cpufreq, quota, fixed"),
        (("--board", "host", "--out", "x", "--ladder", "nobody"), "unknown ladder 'nobody'"),
        (("--board", "host", "--out", "x", "--repeats", "0"), "--repeats"),
        (("--board", "xu3", "--out", "x", "--power-model"), "are for --board host"),
        (("--validate", "none.csv"), "cannot be read"),
        (("--validate", "x.txt"), "name its .csv file"),
    ],
)
def test_bad_input(words: tuple[str, ...], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *words])
    with pytest.raises(InputError) as refused:
        profile_board.main()
    assert problem in str(refused.value) and "\n" not in str(refused.value)


def test_a_gpu_without_a_driver(tmp_path: Path) -> None:
    words = command("--board", "jetson_nano", "--ladder", "digits", "--out", "x")
    done = subprocess.run(words, cwd=tmp_path, env=NO_DRIVER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"GPU: {NO_DEVICE}" in done.stderr and "install the Vulkan driver" in done.stderr


# -- the parts ---------------------------------------------------------------------------------------------------


def sample(rung: int = 1, service_s: tuple[float, ...] = (0.01, 0.02), energy_j: float | None = None) -> Sample:
    energy = None if energy_j is None else dict.fromkeys(load_board("xu3").spec.rails, energy_j)
    key = (rung, "a7", 1, 2e8)
    return Sample(key=key, repeat=0, service_s=service_s, energy_j=energy, seconds=2.0, temp_c=None)


def test_a_journal_keeps_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first = Journal(path, {"board": "a"})
    first.add(sample(1))
    first.add(sample(2, energy_j=3.0))
    first.close()
    again = Journal(path, {"board": "a"})
    assert again.samples == first.samples
    again.close()
    with pytest.raises(InputError, match="of a sweep with other options"):
        Journal(path, {"board": "b"})
    path.write_bytes(path.read_bytes() + b'{"rung": \xff')  # half a line of noise
    Journal(path, {"board": "a"}).close()
    path.write_bytes(path.read_bytes() + b"\xff\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:4: is no text; delete this line"):
        Journal(path, {"board": "a"})
    path.write_bytes(path.read_bytes()[:-2] + b"{}\n")
    with pytest.raises(InputError, match=r"samples\.jsonl:4: is no sample"):
        Journal(path, {"board": "a"})


class Stove:
    """A simulated XU3 as a sweep sees a real one, on a clock of its own; its meter can go."""

    metered = True

    def __init__(self) -> None:
        self._board = open_board("xu3")
        self.spec, self.profile = self._board.spec, self._board.profile
        self._latency_s = {(p.rung, p.unit, p.cores, p.freq_hz): p.latency_mean_s for p in self.profile.points}
        self.frames: list[dict[str, float]] = []
        self.now_s = 0.0
        self.blind = 0  # so many intervals
        self._board.reset(seed=0)

    def monotonic(self) -> float:
        return self.now_s

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        rate_hz = 1 / self._latency_s[knobs.rung, knobs.unit, knobs.cores, knobs.freqs_hz[knobs.unit]]
        rate_hz = max(demand.rate_hz, 1e-6) if math.isfinite(demand.rate_hz) else rate_hz
        telemetry = self._board.step(knobs, replace(demand, rate_hz=rate_hz, deadline_s=1e6))
        took = {"wait_s": 1e-6, "service_s": telemetry.latency_mean_s or 0.0}
        gap_s = self.spec.interval_s / max(telemetry.served, 1)
        self.frames = [{"arrived_s": self.now_s + k * gap_s, **took} for k in range(telemetry.served)]
        self.now_s += self.spec.interval_s
        self.blind -= 1
        return replace(telemetry, energy_j=None) if self.blind >= 0 else telemetry


class Sleeper(Stove):
    """Frames take 10 ms while they come back to back, and 14 ms after a rest."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[float, Telemetry]] = []  # rate that was asked for, and what came of it

    def step(self, knobs: Knobs, demand: Demand) -> Telemetry:
        telemetry = super().step(knobs, demand)
        took_s = 0.014 if math.isfinite(demand.rate_hz) else 0.010
        self.frames = [{**frame, "service_s": took_s} for frame in self.frames]
        self.steps.append((demand.rate_hz, telemetry))
        return telemetry


def swept_on(stove: Stove, path: Path, todo: list[Key], monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(_sweep, "time", stove)
    journal = Journal(path, {})
    with closing(journal):
        effort = Effort(frames=30, least_s=2.0, most_s=20.0)
        Sweep(stove, stove, effort).run([(k, 0) for k in todo], journal, lambda _: None)  # type: ignore[arg-type]
    return journal


def test_latency_is_of_frames_on_a_clock_and_power_of_those_back_to_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = Sleeper()
    (found,) = swept_on(sleeper, tmp_path / "s.jsonl", [(4, "a15", 1, 1e9)], monkeypatch).samples
    assert set(found.service_s) == {0.014} and len(found.service_s) >= 30
    rates_hz = [rate_hz for rate_hz, _ in sleeper.steps if rate_hz]  # without those in which it cooled
    assert rates_hz == sorted(rates_hz, reverse=True)  # first the one, then the other
    assert sorted(set(rates_hz)) == [pytest.approx(_sweep.BUSY_SHARE / 0.010), math.inf]
    assert rates_hz[-1] * 0.014 < 0.7  # so it rests indeed
    count = round(found.seconds / sleeper.spec.interval_s)
    busy = [t.energy_j for rate_hz, t in sleeper.steps if rate_hz == math.inf and t.energy_j][-count:]
    assert found.energy_j == pytest.approx({rail: sum(e[rail] for e in busy) for rail in sleeper.spec.rails})


def test_a_point_that_throttles_counts_until_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cool, hot = (4, "a15", 1, 1e9), (4, "a15", 4, 2e9)
    journal = swept_on(Stove(), tmp_path / "s.jsonl", [hot, cool], monkeypatch)
    assert [(s.key, s.cut) for s in journal.samples] == [(hot, True), (cool, False)]
    assert journal.samples[0].seconds < 2.0 and len(journal.samples[0].service_s) >= 2
    with closing(Journal(tmp_path / "s.jsonl", {})) as again:
        assert again.samples == journal.samples


def test_a_point_that_throttles_at_once_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cool, hot = (4, "a15", 1, 1e9), (4, "a15", 4, 2e9)
    stove = Stove()
    board_step = stove.step

    def step(knobs: Knobs, demand: Demand) -> Telemetry:
        return replace(board_step(knobs, demand), throttled=knobs.freqs_hz["a15"] == 2e9)

    stove.step = step  # type: ignore[method-assign]
    with pytest.raises(Flaky, match=r"^1 of 2 measurements throttled at once each time, the first of rung 4, unit a15"):
        swept_on(stove, tmp_path / "s.jsonl", [hot, cool], monkeypatch)
    with closing(Journal(tmp_path / "s.jsonl", {})) as journal:
        assert [s.key for s in journal.samples] == [cool]


def test_a_point_without_energy_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stove, path, point = Stove(), tmp_path / "s.jsonl", (4, "a15", 1, 1e9)
    stove.blind = 1000
    with pytest.raises(Flaky, match=r"rung 4, unit a15, cores 1, freq_hz 1000000000: the power meter gave no energy$"):
        swept_on(stove, path, [point], monkeypatch)
    stove.blind = 0
    old = Journal(path, {})
    old.add(replace(sample(), key=point))  # as sweeps kept it
    old.close()
    assert [s.energy_j is None for s in swept_on(stove, path, [point], monkeypatch).samples] == [False]


def test_the_order_is_drawn_and_holds_every_point() -> None:
    points = [(rung, "cpu", 1, f) for rung in (1, 2, 3) for f in (1e9, 2e9)]
    todo = order(points, 3, seed=1)
    assert todo == order(points, 3, seed=1) != order(points, 3, seed=2)
    for repeat in range(3):
        assert sorted(k for k, r in todo[6 * repeat : 6 * repeat + 6]) == points
    assert [k for k, _ in todo[:6]] != points


def test_samples_become_a_row(tmp_path: Path) -> None:
    spec = load_board("xu3").spec
    point = operating_point(spec, (1, "a7", 1, 2e8), [sample(energy_j=1.0), sample(service_s=(0.03,), energy_j=3.0)])
    assert point.latency_mean_s == pytest.approx(0.02) and point.samples == 3
    assert point.latency_std_s == pytest.approx(0.01) and point.latency_p95_s == pytest.approx(0.029)
    assert point.power_w == pytest.approx(1.0)  # 4 J in 4 s
    assert set(point.rail_power_w) == set(spec.rails)


def test_p95_is_the_95th_percentile_but_never_below_the_mean() -> None:
    spec = load_board("xu3").spec
    hundred = [sample(service_s=tuple(float(s) for s in range(1, 51))), sample(service_s=tuple(range(51, 101)))]
    point = operating_point(spec, (1, "a7", 1, 2e8), hundred)
    assert (point.samples, point.latency_mean_s, point.latency_p95_s) == (100, 50.5, 95.05)
    uneven = operating_point(spec, (1, "a7", 1, 2e8), [sample(service_s=(0.01,) * 30 + (1.0,))])
    assert uneven.latency_p95_s == uneven.latency_mean_s > 0.01


def test_few_frames_are_one_line() -> None:
    model = load_board("xu3")
    profile = open_profile(model, "paper")
    first, *rest = profile.points
    hasty = replace(profile, points=(replace(first, samples=9), *(replace(p, samples=2) for p in rest)))
    told = set(_profile_lint.lint(hasty, model.spec)) - set(_profile_lint.lint(profile, model.spec))
    assert [line.split(":")[0] for line in told] == [f"{len(rest)} of {len(profile.points)} points"]


def test_a_profile_may_miss_its_power_but_not_half_of_it(tmp_path: Path) -> None:
    spec = load_board("xu3").spec
    shipped = load_profile(profile_path := SCRIPT.parents[1] / "hw/profiles/xu3-paper.csv", spec)
    nan = float("nan")
    points = tuple(
        type(p)(**{**vars(p), "power_w": nan, "rail_power_w": dict.fromkeys(spec.rails, nan), "samples": 5})
        for p in shipped.points
    )
    told = {**shipped.provenance, "power": "missing"}
    path = tmp_path / "xu3-x.csv"
    profile = Profile(**{**vars(shipped), "kind": "measured", "points": points, "provenance": told})
    save_profile(profile, path)
    assert load_profile(path, spec).provenance["power"] == "missing"
    assert "power is missing, latency measured" in _profile_lint.lint(load_profile(path, spec), spec)
    need_power(load_profile(profile_path, spec))
    sidecar = path.with_suffix(".toml")
    sidecar.write_text(sidecar.read_text().replace('power = "missing"\n', ""))
    with pytest.raises(InputError, match="column 'power_w'"):
        load_profile(path, spec)
    sidecar.write_text(sidecar.read_text().replace('name = "paper"\n', 'name = "paper"\npower = "guessed"\n'))
    with pytest.raises(InputError, match="one of measured, modelled, missing"):
        load_profile(path, spec)
