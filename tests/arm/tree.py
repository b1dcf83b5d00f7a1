"""Debian's Python of another architecture, with NumPy and ncnn, run by an emulator of its processor.

The packages are unpacked, not installed: that needs no root, no chroot and nothing registered with the kernel. What
Python starts by `sys.executable` is emulated too, since that is the script which calls the emulator.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "arm"
SUITE = "bookworm"  # Python 3.11 and NumPy 1.24, the oldest that we promise
PACKAGES = ("python3", "python3-numpy", "libstdc++6", "libgomp1")  # the last two: ncnn's
NEEDED = ("lib*.deb", "python3*.deb", "zlib1g*.deb")  # of all that debootstrap downloads
PYTHON = Path("usr/bin/python3.11")
KEPT = {"lib", "usr", "usr/lib", "usr/bin", str(PYTHON)}  # the emulator would take any other file for this machine's
SCRIPT = """#!/bin/sh
exec {qemu} -0 "$0" -L "${{0%/usr/bin/*}}" "${{0%/*}}/{python}" "$@"
"""


class Unavailable(Exception):
    """A tree cannot be had on this machine, or not now."""


@dataclass(frozen=True)
class Arch:
    """An architecture as Debian, the kernel, the C library and the index of wheels call it, and a board that has it."""

    debian: str
    machine: str
    bits: int
    triplet: str
    qemu: str
    wheels: tuple[str, ...]
    board: str


ARMHF = Arch(
    debian="armhf",
    machine="armv7l",
    bits=32,
    triplet="arm-linux-gnueabihf",
    qemu="qemu-arm",
    wheels=("manylinux_2_31_armv7l",),
    board="xu3",
)
ARM64 = Arch(
    debian="arm64",
    machine="aarch64",
    bits=64,
    triplet="aarch64-linux-gnu",
    qemu="qemu-aarch64",
    wheels=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64"),
    board="jetson_nano",
)


def ncnn_version() -> str:
    """The version that everything else is tested with."""
    found = re.search(r"^ncnn==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def python_of(arch: Arch) -> Path:
    """Its Python, downloaded and unpacked where that was not done before. Unavailable where it cannot be had."""
    tools = {name: _tool(name) for name in (arch.qemu, "debootstrap", "dpkg-deb")}
    tree = CACHE / f"{SUITE}-{arch.debian}-ncnn-{ncnn_version()}"
    if not tree.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=CACHE) as name:
            built = _build(arch, Path(name), tools)
            try:
                built.rename(tree)
            except OSError:
                assert tree.exists(), "another test run was faster"
    return tree / PYTHON.parent / "python"


def _tool(name: str) -> str:
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))  # not on everybody's path
    found = shutil.which(name, path=places)
    if found is None:
        raise Unavailable(f"{name} is missing: sudo apt install qemu-user debootstrap")
    return found


def _build(arch: Arch, folder: Path, tools: dict[str, str]) -> Path:
    """The tree, in a folder of its own."""
    packages, tree = folder / "packages", folder / "tree"
    include = f"--include={','.join(PACKAGES)}"
    words = [tools["debootstrap"], "--download-only", "--variant=minbase", f"--arch={arch.debian}", include]
    _download("debootstrap", [*words, SUITE, str(packages)])
    for pattern in NEEDED:
        for package in sorted(packages.glob(f"var/cache/apt/archives/{pattern}")):
            subprocess.run([tools["dpkg-deb"], "--extract", package, tree], check=True)
    for path in [*tree.iterdir(), *(tree / "usr").iterdir(), *(tree / "usr/bin").iterdir()]:
        if str(path.relative_to(tree)) not in KEPT:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in ("blas", "lapack"):  # an installation would choose among several
        library = tree / "usr/lib" / arch.triplet / f"lib{name}.so.3"
        library.symlink_to(f"{name}/{library.name}")
    target = tree / "usr/local/lib" / PYTHON.name / "dist-packages"
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    words += [f"--platform={wheel}" for wheel in arch.wheels]
    words += ["--implementation=cp", "--python-version=3.11", "--abi=cp311", f"--target={target}"]
    _download("pip", [*words, f"ncnn=={ncnn_version()}"])
    script = tree / PYTHON.parent / "python"
    script.write_text(SCRIPT.format(qemu=tools[arch.qemu], python=PYTHON.name))
    script.chmod(0o755)
    subprocess.run([script, "-c", "import numpy, ncnn"], check=True)  # also compiles them for later
    return tree


def _download(who: str, words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        reason = next((line for line in reversed(said) if line.startswith(("E:", "ERROR:"))), said[-1] if said else "")
        raise Unavailable(f"{who} could not download: {reason or f'status {done.returncode}'}")
