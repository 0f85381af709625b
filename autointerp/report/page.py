"""The pages as one HTML file: style, script and, for a report, the data stand in it.

The script makes every text a text node. Beside that the file's policy allows its own script and
style alone, by their hashes, and nothing from elsewhere.
"""

import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from autointerp.secrets import masked

_SCRIPTS = (
    "dom.js",
    "source.js",
    "charts.js",
    "overview.js",
    "table.js",
    "windows.js",
    "correcting.js",
    "feature.js",
    "app.js",
)


def page_html(data: dict[str, Any] | None, title: str = "autointerp") -> tuple[str, str]:
    """The HTML and its content security policy; without data it asks the server it came from."""
    style, script = _asset("style.css"), _script()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "connect-src 'self'" if data is None else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    html = _filled(
        _asset("index.html"),
        policy=f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        title=escape(title),
        style=style,
        script=script,
        data="" if data is None else _embedded(data),
    )
    return html, f"{policy}; frame-ancestors 'none'"


def _filled(template: str, **parts: str) -> str:
    """Each `{{ name }}` replaced once, by parts that may themselves have braces."""
    before, *rest = template.split("{{ ")
    filled = [before]
    for piece in rest:
        name, after = piece.split(" }}", 1)
        filled += [parts[name], after]
    return "".join(filled)


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end its element, whatever text is in it."""
    text = masked(json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="data">{safe}</script>'


@cache
def _asset(name: str) -> str:
    return files("autointerp.report").joinpath("static", name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    return "\n".join(['"use strict";', *(_asset(name) for name in _SCRIPTS)])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
