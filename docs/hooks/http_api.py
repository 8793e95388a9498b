"""The HTTP API as a page, made from the application's own OpenAPI description."""

from __future__ import annotations

import re
import types
from typing import Any, cast

from experiments.serving.app import Settings, build
from experiments.serving.operation.prometheus import ServiceMetrics

_SETTINGS = Settings("", "", simulated=False, given_sessions=False, token=b"any")


def page() -> str:
    """Return a section for each group of routes, then one for the objects of bodies and answers."""
    nobody = cast(Any, types.SimpleNamespace(recommender=None))
    spec = build(nobody, ServiceMetrics(), _SETTINGS).openapi()
    groups: list[str] = []
    for group in spec["tags"]:
        routes = [
            _route(method.upper(), path, route)
            for path, methods in spec["paths"].items()
            for method, route in methods.items()
            if group["name"] in route["tags"]
        ]
        groups += [f"## {group['name']}", group["description"], *routes]
    objects = [
        _object(name, schema) for name, schema in sorted(spec["components"]["schemas"].items())
    ]
    return "\n\n".join([*groups, "## Objects", *objects])


def _route(method: str, path: str, route: dict[str, Any]) -> str:
    parts = [f"### `{method} {path}`", route["description"]]
    if "security" not in route:
        parts.append("Needs no token.")
    if parameters := route.get("parameters"):
        rows = [
            (f"`{p['name']}`", _place(p), _type(p["schema"]), _meaning(p["schema"]))
            for p in parameters
        ]
        parts.append(_table(("parameter", "in", "type", ""), rows))
    if body := route.get("requestBody"):
        parts.append(f"Body: {_type(body['content']['application/json']['schema'])}, as JSON.")
    rows = [
        (
            f"`{status}`",
            answer["description"].replace("Successful Response", "Done."),
            _body(answer),
        )
        for status, answer in sorted(route["responses"].items())
    ]
    return "\n\n".join([*parts, _table(("status", "", "answer"), rows)])


def _object(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _type(of), "" if field in required else "optional", _meaning(of))
        for field, of in schema["properties"].items()
    ]
    return "\n\n".join(
        [
            f"### {_title(name)}",
            schema.get("description", ""),
            _table(("field", "type", "", ""), rows),
        ]
    )


def _place(parameter: dict[str, Any]) -> str:
    return parameter["in"] + ("" if parameter.get("required") else ", optional")


def _type(schema: dict[str, Any]) -> str:
    """Say in words what a value is."""
    if "$ref" in schema:
        name = _title(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{re.sub(r'[^a-z]+', '-', name.lower())})"
    if several := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(map(_type, several))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    kind = str(schema["type"])
    return {"string": "text", "boolean": "true or false"}.get(kind, kind)


def _meaning(schema: dict[str, Any]) -> str:
    """Return a value's description, bounds and default."""
    parts = [schema.get("description", "")]
    if schema.get("type") == "integer" and "minimum" in schema:
        parts.append(f"{schema['minimum']} to {schema['maximum']}")
    if (most := schema.get("maxItems")) is not None:
        parts.append(f"{schema['minItems']} to {most:,}")
    if schema.get("default") not in (None, "", []):
        parts.append(f"default `{str(schema['default']).lower()}`")
    return "; ".join(filter(None, parts))


def _body(answer: dict[str, Any]) -> str:
    if "content" not in answer:
        return ""
    return ", ".join(_type(content["schema"]) for content in answer["content"].values())


def _title(name: str) -> str:
    """Return an object's name in words: of Several_Event_, Several Event."""
    return name.strip("_").replace("_", " ")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
