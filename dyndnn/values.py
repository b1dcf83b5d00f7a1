"""Numbers and switches as people and boards write them; leans on the standard library alone."""

from __future__ import annotations

import re

from dyndnn.errors import NetworkError

MIN_NUMBER = 1e-6  # Hz or s: what is rarer or shorter than that nobody waits for
MAX_SHOWN = 40  # characters of a value in an error


def number(name: str, text: str, most: float) -> float:
    """The number from `MIN_NUMBER` to `most` that was given for `name`; NetworkError where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not MIN_NUMBER <= value <= most:  # false for NaN too
        want = f"a number from {MIN_NUMBER:g} to {most:g}"
        raise NetworkError.at(name, "not usable", value=text[:MAX_SHOWN], want=want)
    return value


def whole(name: str, text: str, most: int, least: int = 1) -> int:
    """The whole number from `least` to `most` that was given for `name`; NetworkError where it is none."""
    if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
        want = f"a whole number from {least} to {most}"
        raise NetworkError.at(name, "not usable", value=text[:MAX_SHOWN], want=want)
    return int(text)


def switch(name: str, text: str) -> bool:
    """Whether `name` was given as on; NetworkError where it is neither that nor off."""
    if text not in ("on", "off"):
        raise NetworkError.at(name, "not usable", value=text, want="on or off")
    return text == "on"
