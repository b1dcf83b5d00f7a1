"""What flies is light, the packages are ours, and everything public says what it is for."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hw", "envs", "agents", "dyndnn", "experiments")
HEAVY = ("torch", "gymnasium", "stable_baselines3", "sb3_contrib", "pandas", "matplotlib", "tensorboard")
LIGHT = (
    "hw",
    "hw.boardfile",
    "hw.catalog",
    "hw.check",
    "hw.ladderfile",
    "hw.modelled",
    "hw.profile",
    "hw.real.board",
    "hw.real.emulated",
    "hw.real.emulation",
    "hw.real.emulator",
    "hw.real.host",
    "hw.real.workplan",
    "hw.simulated.board",
    "envs.codec",
    "envs.reward",
    "envs.scenario",
    "agents.policy",
    "agents.runtime",
    "agents.saved",
    "agents.supervisor",
    "agents.watch",
    "dyndnn.ladder",
    "dyndnn.serve",
    "experiments.deploy_policy",
    "experiments.profile_board",
)


def in_fresh_python(code: str) -> dict[str, object]:
    """What `code` prints as JSON, in a new interpreter that finds the packages of this clone first."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("module", LIGHT)
def test_what_flies_is_light(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps({{n: n in sys.modules for n in {HEAVY!r}}}))"
    loaded = [name for name, there in in_fresh_python(code).items() if there]
    assert not loaded, f"importing {module} brings in {', '.join(loaded)}"


def test_who_watches_a_flight_leans_on_hw_alone() -> None:
    ours = tuple(name for name in PACKAGES if name != "hw")
    code = (
        "import json, sys; before = set(sys.modules)\n"  # an installation registers the environments
        "import agents.supervisor\n"
        f"print(json.dumps({{m: m for m in set(sys.modules) - before if m.partition('.')[0] in {ours!r}}}))"
    )
    assert set(in_fresh_python(code)) == {"agents", "agents.supervisor", "agents.watch"}


def test_the_boards_lean_on_numpy_alone() -> None:
    code = (
        "import json, sys, hw.catalog, hw.check\n"
        "tops = {m.partition('.')[0] for m in sys.modules}\n"
        "found = {m: str(getattr(sys.modules.get(m), '__file__', None)) for m in tops}\n"
        "print(json.dumps(found))"
    )
    third_party = {
        name
        for name, file in in_fresh_python(code).items()
        if "site-packages" in Path(str(file)).parts and not name.startswith("_")
    }
    assert third_party <= {"numpy"}


def test_a_board_is_profiled_with_what_its_extra_brings() -> None:
    """`pip install ".[device]"`; checked by name, since a whole installation is here."""
    code = "import json, sys, experiments.profile_board, tyro; print(json.dumps({m: m for m in sys.modules}))"
    tops = {name.partition(".")[0] for name in in_fresh_python(code)}
    brought = importlib.metadata.packages_distributions()
    allowed = {"powerband", *requirements("powerband", "device")}
    for top in {name for name in tops & set(brought) if not name.startswith("_")}:
        assert set(map(canonicalize_name, brought[top])) & allowed, f"{top} is not of the extra `device`"


def requirements(name: str, extra: str = "") -> set[str]:
    """Names of what a distribution requires with an extra, and of what these require."""
    found: set[str] = set()
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found |= {canonicalize_name(requirement.name), *requirements(requirement.name)}
    return found


@pytest.mark.parametrize("package", ["hw", "envs", "agents"])
def test_the_packages_are_ours(package: str) -> None:
    # other distributions install packages of these names
    code = f"import json, {package}; print(json.dumps({{'file': {package}.__file__}}))"
    assert Path(str(in_fresh_python(code)["file"])).resolve() == ROOT / package / "__init__.py"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        env=env,
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).resolve() == ROOT / package / "__init__.py"


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"
    if path.name == "__init__.py":
        assert len(tree.body) == 1, f"{path.relative_to(ROOT)} is more than its docstring"


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from experiments import _cli` names a module too
            found |= {f"{module}.{alias.name}" for alias in node.names} if module in PACKAGES else {module}
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle(path: Path) -> None:
    names = imported(path) & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    assert not names, f"{path} imports {names}"


def test_the_boards_import_numpy_alone() -> None:
    """And what burns on a GPU, in a process of its own, ncnn."""
    for path in (p for p in sources() if p.is_relative_to(ROOT / "hw")):
        others = {name.partition(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"hw", "numpy"}
        assert others == ({"ncnn"} if path.name == "gpuburner.py" else set()), path


def test_commands_share_modules_and_not_each_other() -> None:
    for path in (p for p in sources() if p.is_relative_to(ROOT / "experiments")):
        siblings = {name for name in imported(path) if name.startswith("experiments.")}
        assert all(name.startswith("experiments._") for name in siblings), f"{path}: {siblings}"
