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
from experiments._cli import FAULT_STATUS, INTERRUPT_STATUS
from experiments._lines import say
from experiments._telemetry import check_target
from hw.errors import Flaky, InputError
from hw.real.state import BOOT_ID, state_file

FOLDER = ".cache/powerband-flight"  # in the home folder there, nobody else's: its files are replaced; output in `out`
RESTORE = f"cd {FOLDER} && PYTHONPATH=. python3 -m experiments.deploy_policy --restore"  # there
LEFT = state_file("/")  # there while a board is not put back
POLL_S = 1.0
TRIES = 15  # so often in a row a connection may fail, or a board be found not put back: a supervisor tries for 10 s
ALIVE = ("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
STALL_S = 30  # rsync gives up after so long without a byte
LIMIT_S = 120.0  # a command that takes longer hangs
COPY_S = 3600.0  # of the one copy there, by a slow line
UNREACHED = 255  # ssh's own status
OUT_TELEMETRY = "out/telemetry.csv"
OUT_BOOT = "out/boot"  # beside the process's number, which means another one after a boot


def _same_boot(file: str) -> str:
    """The shell's test whether the machine was not booted since the file was written."""
    return f'test "$(cat {file} 2>/dev/null)" = "$(cat /{BOOT_ID})"'


PROBE = f"""\
out={FOLDER}/out
test -f $out/pid && test ! -f $out/status && {_same_boot(f"{FOLDER}/{OUT_BOOT}")} && \
kill -0 "$(cat $out/pid)" 2>/dev/null && {{ echo "busy $(cat $out/pid)"; exit; }}
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
        return ["ssh", *ALIVE, self.host, script]

    def push(self, folder: Path) -> list[str]:
        """The command that makes the folder there this one, but for `out`."""
        return [*self._rsync(), "--delete", "--exclude=/out", f"{folder}/", f"{self.host}:{FOLDER}/"]

    def pull(self, folder: Path) -> list[str]:
        """The command that brings `out` back."""
        return [*self._rsync(), f"{self.host}:{FOLDER}/out/", f"{folder}/"]

    def _rsync(self) -> list[str]:
        return ["rsync", "-az", f"--timeout={STALL_S}", "-e", shlex.join(["ssh", *ALIVE])]

    def start(self, python: str, words: Sequence[str]) -> str:
        """The script that starts a flight in a session of its own, and says its process group."""
        fly = f"{python} -m experiments.deploy_policy {shlex.join(words)}"
        kept = f"PYTHONPATH=. {fly} >out/log 2>&1 </dev/null; echo $? >out/.status; mv out/.status out/status"
        return (
            f"cd {FOLDER} && rm -rf out && mkdir out && cat /{BOOT_ID} >{OUT_BOOT} || exit 1\n"
            f"nohup setsid sh -c {shlex.quote(kept)} >/dev/null 2>&1 </dev/null &\n"
            "echo $! | tee out/pid"
        )

    def state(self, pid: str) -> str:
        """The script that says `flying`, `done STATUS` or `gone`.

        With `left` behind it where the flight was killed and the board not put back.
        """
        # its status last: a flight that ended a moment ago has left one; a shell's for what was killed is above 128
        return (
            f"cd {FOLDER} && left=; if {_same_boot(OUT_BOOT)} && kill -0 {pid} 2>/dev/null; then now=flying; "
            f"else now=gone; fi; test -e {shlex.quote(str(LEFT))} && left=left; "
            'if test -f out/status; then now="done $(cat out/status)"; test ${now#done } -gt 128 || left=; fi; '
            'test "$now" = flying && left=; echo $now $left'
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
        read or telemetry not be written here (nothing was asked or done there by then), where the machine lacks
        something, and where telemetry cannot be written any more; Flaky where it cannot be reached.
        """
        check_target(telemetry)
        with tempfile.TemporaryDirectory(prefix="powerband-") as name:
            cargo, out = Path(name) / "cargo", Path(name) / "out"
            words = load_cargo(cargo, policy=policy, board=board, profile=profile, scenario=scenario, fallback=fallback)
            python = self._probe()
            self._run(self.ssh(f"mkdir -p {FOLDER}"))  # rsync makes the last folder of a path only
            self._run(self.push(cargo), COPY_S)
            pid = self._run(self.ssh(self.start(python, [*words, *options, "--telemetry", OUT_TELEMETRY]))).strip()
            say(f"flies on {self.host} as process {pid}, in {FOLDER}; Ctrl-C ends the following, not the flight")
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
        shown = failed = left = 0
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
            say(log[shown:].decode(errors="replace"), end="")
            shown = len(log)
            brought = (out / "telemetry.csv").exists()
            if brought:
                self._keep(out / "telemetry.csv", telemetry)
            left = left + 1 if said[-1:] == ["left"] else 0
            if left == TRIES:
                there = f"run deploy_policy.py --restore there: ssh {self.host} '{RESTORE}'"
                print(f"the flight on {self.host} was killed, and the board not put back; {there}", file=sys.stderr)
                return FAULT_STATUS
            if said[:1] == ["done"] and not left:
                if brought:
                    say(f"brought here as {telemetry}")
                return int(said[1])
            if said == ["gone"]:
                print(f"the flight on {self.host} was killed; nothing is left to put back there", file=sys.stderr)
                return FAULT_STATUS
            time.sleep(POLL_S)

    def _keep(self, file: Path, telemetry: Path) -> None:
        """Copy what was brought here to where it is wanted; InputError where it cannot be written."""
        try:
            shutil.copyfile(file, telemetry)
        except OSError as error:
            want = f"the flight on {self.host} goes on, its telemetry in {FOLDER}/{OUT_TELEMETRY} there"
            raise InputError.at(telemetry, f"cannot be written: {error.strerror or error}", want=want) from None

    def _run(self, command: Sequence[str], limit_s: float | None = None) -> str:
        """What a command prints. Raises InputError where it is not installed, Flaky where it fails or takes too long.

        `limit_s`: so long it may take (None: `LIMIT_S`).
        """
        limit_s = limit_s or LIMIT_S
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s
            )
        except FileNotFoundError:
            raise InputError(f"{command[0]} is not installed here; install its package") from None
        except subprocess.TimeoutExpired:
            raise Flaky(f"{self.host}: {command[0]} did not end within {limit_s:g} s") from None
        if done.returncode == 0:
            return done.stdout
        lines = done.stderr.strip().splitlines() or [f"{command[0]} ended with status {done.returncode}"]
        what = "cannot be reached" if done.returncode == UNREACHED else f"{command[0]} failed"
        raise Flaky(f"{self.host}: {what}: {lines[-1].strip()}")
