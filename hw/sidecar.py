"""The `.toml` beside a profile's CSV: board, ladder, how, when, and the checksum of the numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from hw.errors import InputError
from hw.files import read_toml
from hw.types import Kind, Profile, Rung

KEYS = ("board", "name", "kind", "how", "when", "sensor_rate_hz", "checksum", "rungs")
OPTIONAL = ("ladder", "power")
POWER = ("measured", "modelled", "missing")
RUNG_KEYS = ("name", "accuracy", "accuracy_source", "macs", "bytes")


def read_sidecar(path: Path, board: str) -> Profile:
    """What the sidecar says, as a Profile without points yet; InputError where it is missing or malformed.

    `provenance` holds `how`, `when`, `sensor_rate_hz`, `accuracy_source` (a tuple, one text per rung) and, where the
    sidecar says so, `ladder` (the name of the network whose work it is of) and `power` (one of POWER, only where it is
    not the profile's kind: a board without a meter).
    """
    if not path.is_file():
        raise InputError.at(path, "missing: a profile needs this file beside its .csv")
    raw: dict[str, object] = read_toml(path)
    _check_keys(path, dict.fromkeys(OPTIONAL) | raw, (*KEYS, *OPTIONAL), "")
    texts = {key: _text(path, raw, key, "") for key in ("board", "name", "kind", "how", "when", "checksum")}
    if texts["board"] != board:
        raise InputError.at(path, "is of another board", column="board", value=texts["board"], want=f"here {board!r}")
    if texts["kind"] not in ("measured", "modelled"):
        want = "'measured' or 'modelled'"
        raise InputError.at(path, "unknown kind", column="kind", value=texts["kind"], want=want)
    power = _text(path, {"power": texts["kind"], **raw}, "power", "")
    if power not in POWER or (power == "measured" and texts["kind"] == "modelled"):
        want = f"one of {', '.join(POWER)}; nothing is measured in a modelled profile"
        raise InputError.at(path, "cannot be", column="power", value=power, want=want)
    if not re.fullmatch("[0-9a-f]{64}", texts["checksum"]):
        want = "the SHA-256 of the .csv in hexadecimal"
        raise InputError.at(path, "not a checksum", column="checksum", value=texts["checksum"], want=want)
    tables = raw["rungs"]
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise InputError.at(path, "no rungs", column="rungs", want="one [[rungs]] table per rung, smallest first")
    rungs = [_rung(path, index, table) for index, table in enumerate(tables, 1)]
    return Profile(
        name=texts["name"],
        board=board,
        kind=cast(Kind, texts["kind"]),
        rungs=tuple(rungs),
        points=(),
        provenance={
            "how": texts["how"],
            "when": texts["when"],
            "sensor_rate_hz": _number(path, raw, "sensor_rate_hz", "", math.inf),
            **({"ladder": _text(path, raw, "ladder", "")} if "ladder" in raw else {}),
            **({} if power == texts["kind"] else {"power": power}),
            "accuracy_source": tuple(
                _text(path, table, "accuracy_source", f" of rung {i}") for i, table in enumerate(tables, 1)
            ),
        },
        checksum=texts["checksum"],
    )


def sidecar_text(profile: Profile) -> str:
    """The sidecar of a profile that carries its CSV's checksum; InputError where its provenance has gaps."""
    told = profile.provenance
    missing = [key for key in ("how", "when", "sensor_rate_hz", "accuracy_source") if key not in told]
    if missing:
        raise InputError(f"profile {profile.name!r} does not say {missing[0]!r} in its provenance")
    sources = told["accuracy_source"]
    sources = (sources,) * len(profile.rungs) if isinstance(sources, str) else tuple(cast(tuple[str], sources))
    if len(sources) != len(profile.rungs):
        raise InputError(f"profile {profile.name!r}: {len(sources)} accuracy sources, {len(profile.rungs)} rungs")
    head: dict[str, object] = {
        "board": profile.board,
        "name": profile.name,
        **({"ladder": told["ladder"]} if "ladder" in told else {}),
        "kind": profile.kind,
        "how": told["how"],
        "when": told["when"],
        "sensor_rate_hz": float(cast(float, told["sensor_rate_hz"])),
        "checksum": profile.checksum,
    }
    if told.get("power", profile.kind) != profile.kind:
        head["power"] = told["power"]
    lines = [f"{key} = {_value(value)}" for key, value in head.items()]
    for rung, source in zip(profile.rungs, sources, strict=True):
        values = (rung.name, float(rung.accuracy), source, float(rung.macs), float(rung.bytes))
        lines += ["", "[[rungs]]"]
        lines += [f"{key} = {_value(value)}" for key, value in zip(RUNG_KEYS, values, strict=True)]
    return "\n".join(lines) + "\n"


def _rung(path: Path, index: int, table: Mapping[str, object]) -> Rung:
    where = f" of rung {index}"
    _check_keys(path, table, RUNG_KEYS, where)
    return Rung(
        index=index,
        name=_text(path, table, "name", where),
        accuracy=_number(path, table, "accuracy", where, 1.0),
        macs=_number(path, table, "macs", where, math.inf),
        bytes=_number(path, table, "bytes", where, math.inf),
    )


def _check_keys(path: Path, table: Mapping[str, object], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise InputError.at(path, f"unknown key{where}", column=key, want=f"the keys are {', '.join(known)}")
    for key in known:
        if key not in table:
            raise InputError.at(path, f"missing key{where}", column=key, want=f"the keys are {', '.join(known)}")


def _text(path: Path, table: Mapping[str, object], key: str, where: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise InputError.at(path, f"not a text{where}", column=key, value=value, want="a text in quotes")
    return value


def _number(path: Path, table: Mapping[str, object], key: str, where: str, high: float) -> float:
    value = table[key]
    want = "a finite number of at least 0" if high == math.inf else f"a number from 0 to {high:g}"
    # compared before it is converted: TOML integers may be longer than a float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= min(high, 1e300):
        raise InputError.at(path, f"out of range{where}", column=key, value=value, want=want)
    return float(value)


def _value(value: object) -> str:
    """A TOML value; a TOML basic string is a JSON string that escapes DEL as well."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
