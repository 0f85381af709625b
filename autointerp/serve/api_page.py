"""The OpenAPI description as a page of plain HTML: no script, nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
    "margin:auto;padding:1rem}code,h2{font-family:ui-monospace,monospace}h2{font-size:1.1rem}"
    "html{background:light-dark(#fff,#14161a);color:light-dark(#1a1d23,#e6e8ec)}"
    "a{color:light-dark(#0b57b0,#82b4ff)}"
    "td{padding:0 1rem .2rem 0;vertical-align:top}p{white-space:pre-wrap}"
)


def api_page(schema: Mapping[str, Any]) -> tuple[str, str]:
    """The page and its Content-Security-Policy."""
    info = schema["info"]
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    shapes = "".join(_shape(name, s) for name, s in schema["components"]["schemas"].items())
    html = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(info['title'])}: API</title><style>{_STYLE}</style>"
        f"<main><h1>{escape(info['title'])} {escape(info['version'])}: API</h1>"
        f"<p>{escape(info['description'])} For programs: "
        '<a href="/api/openapi.json">openapi.json</a>. Errors are {"detail": "one line"}.</p>'
        f"{operations}<h1>Shapes</h1>{shapes}</main></html>"
    )
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    return html, f"{policy}; frame-ancestors 'none'"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (p["name"], p["in"], _type(p["schema"]), "required" if p.get("required") else "")
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {})
    rows += [("body", kind, _type(content["schema"]), "required") for kind, content in body.items()]
    for status, said in operation["responses"].items():
        shape = said.get("content", {}).get("application/json", {}).get("schema", {})
        rows.append((status, "response", _type(shape), said["description"]))
    about = escape(operation.get("description", ""))
    return f"<h2>{method.upper()} {escape(path)}</h2><p>{about}</p>{_table(rows)}"


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (field, _type(s), "required" if field in required else "")
        for field, s in schema.get("properties", {}).items()
    ]
    about = escape(schema.get("description", ""))
    return f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{about}</p>{_table(rows)}'


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    cells = ("".join(f"<td>{_linked(cell)}</td>" for cell in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


_LINK = "→"


def _linked(cell: str) -> str:
    """The cell's text; names of shapes, which an arrow is before, lead to them."""
    words = []
    for word in cell.split(" "):
        name = word.removeprefix(_LINK)
        text = escape(name)
        words.append(f'<a href="#{text}"><code>{text}</code></a>' if name != word else text)
    return " ".join(words)


def _type(schema: Mapping[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        return _LINK + str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(member) for member in schema[several])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [f"{name} {schema[name]}" for name in _LIMITS if name in schema]
    return f"{kind} ({', '.join(limits)})" if limits else kind


_LIMITS = ("minimum", "maximum", "minLength", "maxLength")
