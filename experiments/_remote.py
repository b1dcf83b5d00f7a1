"""A flight on another machine: what flies is copied there with rsync, started with ssh, and its telemetry collected.

There it needs rsync, Python 3.11, NumPy, and ncnn where a network serves. It goes on when the connection, or this
command, ends.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from experiments._cargo import load_cargo
from experiments._cli import INTERRUPT_STATUS
from experiments._telemetry import check_target
from hw.errors import Flaky, InputError

FOLDER = ".cache/powerband-flight"  # in the home folder there, nobody else's: its files are replaced; output in `out`
POLL_S = 1.0
TRIES = 15  # so often in a row a connection may fail
UNREACHED = 255  # ssh's own status
OUT_TELEMETRY = "out/telemetry.csv"
KILLED_STATUS = 3  # as a flight that a fault ended

PROBE = f"""\
out={FOLDER}/out
test -f $out/pid && test ! -f $out/status && kill -0 "$(cat $out/pid)" 2>/dev/null && \
{{ echo "busy $(cat $out/pid)"; exit; }}
command -v rsync >/dev/null || {{ echo "no rsync"; exit; }}
said="no Python"
for p in python3 python3.11 python3.12 python3.13 python3.14; do
  "$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
  said="no numpy"
  "$p" -c 'import numpy' 2>/dev/null && {{ said="python $p"; break; }}
done
echo "$said"
"""
LACKS = {
    "no rsync": "has no rsync; install it there: sudo apt install rsync",
    "no Python": "has no Python 3.11 or newer; install it there: sudo apt install python3 python3-numpy",
    "no numpy": "has Python without NumPy; install it there: sudo apt install python3-numpy",
}


class Remote:
    """Another machine, by the system's ssh and rsync."""

    def __init__(self, host: str) -> None:
        """`host` as ssh takes it: USER@HOST. Raises InputError for what ssh would take for an option."""
        if not host or host.startswith("-") or any(c.isspace() for c in host):
            raise InputError.at("--remote", "is no machine", value=host, want="USER@HOST, as ssh takes it")
        self.host = host

    def ssh(self, script: str) -> list[str]:
        """The command that runs a shell script there."""
        return ["ssh", "-o", "ConnectTimeout=10", self.host, script]

    def push(self, folder: Path) -> list[str]:
        """The command that makes the folder there this one, but for `out`."""
        return ["rsync", "-az", "--delete", "--exclude=/out", f"{folder}/", f"{self.host}:{FOLDER}/"]

    def pull(self, folder: Path) -> list[str]:
        """The command that brings `out` back."""
        return ["rsync", "-az", f"{self.host}:{FOLDER}/out/", f"{folder}/"]

    def start(self, python: str, words: Sequence[str]) -> str:
        """The script that starts a flight in a session of its own, and says its process group."""
        fly = f"{python} -m experiments.deploy_policy {shlex.join(words)}"
        kept = f"PYTHONPATH=. {fly} >out/log 2>&1 </dev/null; echo $? >out/.status; mv out/.status out/status"
        return (
            f"cd {FOLDER} && rm -rf out && mkdir out || exit 1\n"
            f"nohup setsid sh -c {shlex.quote(kept)} >/dev/null 2>&1 </dev/null &\n"
            "echo $! | tee out/pid"
        )

    def state(self, pid: str) -> str:
        """The script that says `done STATUS`, `flying` or `gone`."""
        # its status last: a flight that ended a moment ago has left one
        return (
            f"cd {FOLDER} && if kill -0 {pid} 2>/dev/null; then now=flying; else now=gone; fi; "
            "if test -f out/status; then echo done $(cat out/status); else echo $now; fi"
        )

    def fly(
        self,
        *,
        policy: str,
        board: str,
        profile: str | None,
        scenario: str | None,
        fallback: str | None,
        telemetry: Path,
        options: Sequence[str],
    ) -> int:
        """Copy, start, and follow to the end; the flight's exit status.

        Names of files (policy, board, profile, scenario, fallback) go along. Raises InputError where a file cannot be
        read (nothing was asked or done there by then) or the machine lacks something, Flaky where it cannot be reached.
        """
        check_target(telemetry)
        with tempfile.TemporaryDirectory(prefix="powerband-") as name:
            cargo, out = Path(name) / "cargo", Path(name) / "out"
            words = load_cargo(cargo, policy=policy, board=board, profile=profile, scenario=scenario, fallback=fallback)
            python = self._probe()
            self._run(self.ssh(f"mkdir -p {FOLDER}"))  # rsync makes the last folder of a path only
            self._run(self.push(cargo))
            pid = self._run(self.ssh(self.start(python, [*words, *options, "--telemetry", OUT_TELEMETRY]))).strip()
            print(f"flies on {self.host} as process {pid}, in {FOLDER}; Ctrl-C ends the following, not the flight")
            try:
                return self._follow(pid, out, telemetry)
            except KeyboardInterrupt:
                how = f"ssh {self.host} kill -- -{pid}"
                print(
                    f"the flight on {self.host} goes on; to end it: {how}; telemetry so far in {telemetry}",
                    file=sys.stderr,
                )
                return INTERRUPT_STATUS

    def _probe(self) -> str:
        """The Python to fly with."""
        said = self._run(self.ssh(PROBE)).strip().rpartition("\n")[2]
        what, _, detail = said.partition(" ")
        if what == "busy":
            raise InputError(f"{self.host}: a flight is under way there (process {detail}); end it first")
        if said in LACKS:
            raise InputError(f"{self.host} {LACKS[said]}")
        if what != "python":
            raise InputError(f"{self.host}: no shell answers there, but {said[:60]!r}")
        return detail

    def _follow(self, pid: str, out: Path, telemetry: Path) -> int:
        shown = failed = 0
        while True:
            try:
                said = self._run(self.ssh(self.state(pid))).split()
                self._run(self.pull(out))
                failed = 0
            except Flaky as error:
                failed += 1
                if failed == TRIES:
                    raise Flaky(f"{error}; the flight there goes on, in {FOLDER}/out") from None
                time.sleep(POLL_S)
                continue
            log = (out / "log").read_bytes() if (out / "log").exists() else b""
            sys.stdout.write(log[shown:].decode(errors="replace"))
            sys.stdout.flush()
            shown = len(log)
            if (out / "telemetry.csv").exists():
                shutil.copyfile(out / "telemetry.csv", telemetry)
            if said[:1] == ["done"]:
                if telemetry.exists():
                    print(f"brought here as {telemetry}")
                return int(said[1])
            if said != ["flying"]:
                print(f"the flight on {self.host} was killed; its supervisor has put the board back", file=sys.stderr)
                return KILLED_STATUS
            time.sleep(POLL_S)

    def _run(self, command: Sequence[str]) -> str:
        """What a command prints. Raises InputError where it is not installed, Flaky where it fails."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except FileNotFoundError:
            raise InputError(f"{command[0]} is not installed here; install its package") from None
        if done.returncode == 0:
            return done.stdout
        lines = done.stderr.strip().splitlines() or [f"{command[0]} ended with status {done.returncode}"]
        what = "cannot be reached" if done.returncode == UNREACHED else f"{command[0]} failed"
        raise Flaky(f"{self.host}: {what}: {lines[-1].strip()}")
