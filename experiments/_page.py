"""A page of HTML that needs nothing beside it: text, tables and pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable

import matplotlib
from matplotlib.figure import Figure

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
img{max-width:100%}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .8rem;text-align:right}
th{border-bottom:1px solid #888;white-space:pre-line}td{white-space:nowrap}
td:first-child,th:first-child{text-align:left}td:first-child{white-space:normal;overflow-wrap:anywhere}
tr.marked{font-weight:bold}code{font-size:.9em}"""
DPI = 110
INK = "#33628d"

matplotlib.rcParams["text.parse_math"] = False  # names are text, whatever they hold; read when a text is made


def document(title: str, parts: Iterable[str]) -> str:
    """The page of these pieces of HTML."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def image(figure: Figure, words: str) -> str:
    """The figure within the page; `words` for who cannot see it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<p><img alt="{html.escape(words)}" src="data:image/png;base64,{data}"></p>'
