"""Tables and pages show a name as it stands, whatever it holds."""

from __future__ import annotations

import base64

import pytest
from matplotlib.figure import Figure

from experiments._gap import METRICS, Gap, print_gaps
from experiments._page import image
from experiments._report import _short

ODD = ("runs/[final]/policy.npz", "runs/[/a]/p.npz", "runs/:warning:/p.npz")


def test_a_picture_of_a_name_with_dollars() -> None:
    figure = Figure()
    ax = figure.subplots()
    ax.annotate("$\\foo$.npz", (0.5, 0.5))
    ax.set_title("$\\foo$.npz")
    ax.set_yticks([0.0], ["$\\foo$.npz"])
    made = image(figure, "$\\foo$.npz")
    picture = base64.b64decode(made.split("base64,")[1].split('"')[0])
    assert picture.startswith(b"\x89PNG") and 'alt="$\\foo$.npz"' in made


@pytest.mark.parametrize("name", ODD)
def test_gaps_print_a_name_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"simulated": 1.0, "machine": 1.1, "gap": 0.1, "low": 0.0, "high": 0.2}
    print_gaps([Gap(controller=name, metric=next(iter(METRICS)), flights=2, **figures)])
    assert name in capsys.readouterr().out


def test_names_in_a_picture_are_told_apart() -> None:
    found = _short(["a/one/policy.npz", "b/one/policy.npz", "runs/mine.npz", "ladder", "policy.npz"])
    assert [*found.values()] == ["a/one/policy.npz", "b/one/policy.npz", "mine.npz", "ladder", "policy.npz"]
    assert [*_short(["x/a/policy.npz", "x/b/policy.npz"]).values()] == ["a/policy.npz", "b/policy.npz"]
