"""Make the data files of kubesim.schema from the structure documents of a real API server.

    python scripts/build_schema.py ../shared/conformance/openapi

The folder holds `/openapi/v2`, `/openapi/v3` and the discovery documents of one Kubernetes version, without prose.
`field_shapes.txt` beside this script adds what those documents do not say: how the wire format writes a field that
is empty. Three files come out, all JSON, compressed with zlib:

    types.z      the types: fields, required, enums, defaults, list types, merge keys  (read at the first decode)
    discovery.z  groups, versions, resources, verbs, short names                       (read when a server starts)
    openapi.z    the OpenAPI v2 document and the paths and schemas of v3                (read when somebody asks)

Nothing is fetched and nothing is dated: the same folder gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "src" / "kubesim" / "schema" / "data"
SCHEMA_REF = "#/components/schemas/"

SCALARS = {
    "io.k8s.apimachinery.pkg.apis.meta.v1.Time": "t",
    "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime": "u",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "o",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "a",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "a",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "a",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "a",
}


def read(path: Path) -> Json:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    loaded: Json = json.loads(text)
    return loaded


def write(name: str, value: object) -> None:
    text = json.dumps(value, separators=(",", ":"), sort_keys=False).encode()
    packed = zlib.compress(text, 9)
    (OUT / name).write_bytes(packed)
    print(f"{name}: {len(text):,} bytes, {len(packed):,} compressed")


def field_shapes() -> dict[str, dict[str, tuple[str, str]]]:
    """{type: {field: (marks, type name in errors)}}."""
    shapes: dict[str, dict[str, tuple[str, str]]] = {}
    for line in (HERE / "field_shapes.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, *fields = line.split()
        marks = shapes.setdefault("io.k8s." + name, {})
        for field in fields:
            found = re.fullmatch(r"([^*.!(]+)([*.!]*)(?:\((.+)\))?", field)
            if found is None:
                raise SystemExit(f"field_shapes.txt: cannot read {field!r} of {name}")
            marks[found[1]] = (found[2], found[3] or "")
    return shapes


class Types:
    """Numbers the types and writes each field as [spec, {what else is known}]."""

    def __init__(self, schemas: Json) -> None:
        self.schemas = schemas
        self.shapes = field_shapes()
        self.names = sorted(name for name, schema in schemas.items() if "properties" in schema)
        self.numbers = {name: number for number, name in enumerate(self.names)}

    def spec(self, schema: Json) -> str:
        """The type of a schema as a short text: see kubesim.schema.types.parse_spec."""
        ref = schema.get("$ref") or (schema.get("allOf") or [{}])[0].get("$ref")
        if ref:
            name = ref.removeprefix(SCHEMA_REF)
            if name in SCALARS:
                return SCALARS[name]
            return f"@{self.numbers[name]}" if name in self.numbers else "@"
        kind = schema.get("type")
        if kind == "array":
            return "[" + self.spec(schema["items"])
        if kind == "object":
            return (
                "{" + self.spec(schema["additionalProperties"]) if "additionalProperties" in schema else "a"
            )
        if kind == "string":
            return "y" if schema.get("format") == "byte" else "s"
        if kind == "integer":
            return "i" if schema.get("format") == "int32" else "l"
        return {"boolean": "b", "number": "d"}.get(str(kind), "a")

    def empty(self, spec: str, schema: Json, marks: str) -> str:
        """How an empty field is written: o(ptional), p(lain: left out), z(ero), n(ull)."""
        if marks:
            return {"*": "o", ".": "p", "*!": "n"}.get(marks, "n" if spec[0] in "[{" else "z")
        if spec[0] in "[{":
            return "p"
        if spec in "tu":
            return "z"
        if spec == "a":
            return "o"
        if "default" in schema:
            return "z"
        return "p" if spec in "sy" else "o"

    def field(self, owner: str, name: str, schema: Json) -> list[object]:
        spec = self.spec(schema)
        marks, named = self.shapes.get(owner, {}).get(name, ("", ""))
        extra: Json = {"e": self.empty(spec, schema, marks)}
        if schema.get("default") not in (None, "", 0, False, {}):
            extra["d"] = schema["default"]
        if "enum" in schema:
            extra["v"] = schema["enum"]
        if named:
            extra["g"] = named
        for key, short in (
            ("x-kubernetes-list-type", "l"),
            ("x-kubernetes-list-map-keys", "k"),
            ("x-kubernetes-map-type", "m"),
            ("x-kubernetes-patch-strategy", "s"),
            ("x-kubernetes-patch-merge-key", "p"),
        ):
            if key in schema:
                extra[short] = schema[key]
        return [spec, extra]

    def build(self) -> list[object]:
        built: list[object] = []
        for name in self.names:
            schema = self.schemas[name]
            unknown = set(self.shapes.get(name, {})) - set(schema["properties"])
            if unknown:
                print(f"field_shapes.txt: {name} has no {', '.join(sorted(unknown))}")
            entry: Json = {
                "n": name,
                "f": {field: self.field(name, field, sub) for field, sub in schema["properties"].items()},
            }
            if schema.get("required"):
                entry["r"] = schema["required"]
            if schema.get("x-kubernetes-map-type"):
                entry["m"] = schema["x-kubernetes-map-type"]
            kinds = schema.get("x-kubernetes-group-version-kind", [])
            if kinds:
                entry["g"] = [[kind["group"], kind["version"], kind["kind"]] for kind in kinds]
            built.append(entry)
        return built


def collect(folder: Path) -> tuple[Json, Json]:
    """All schemas of the v3 documents, and {document: what else it has, and which schemas it has in another form}."""
    schemas: Json = {}
    documents: Json = {}
    for name in read(folder / "v3" / "index.json")["paths"]:
        document = read(folder / "v3" / f"{name.removeprefix('.').replace('/', '_')}.json.gz")
        components = document.get("components", {})
        own = components.pop("schemas", {})
        document["own"] = {title: one for title, one in own.items() if schemas.setdefault(title, one) != one}
        documents[name] = document
    return schemas, documents


def discovery(folder: Path) -> Json:
    found = folder / "discovery"
    lists = {
        path.stem.replace("apis_", "").replace("api_", "").replace("_", "/"): read(path)["resources"]
        for path in sorted(found.glob("*_v*.json"))
    }
    return {
        "api": read(found / "api.json"),
        "apis": read(found / "apis.json"),
        "lists": lists,
    }


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (Path(arguments[0]) / "v2.json.gz").is_file():
        print(__doc__)
        return 2
    folder = Path(arguments[0])
    OUT.mkdir(exist_ok=True)
    schemas, documents = collect(folder)
    write("types.z", Types(schemas).build())
    write("discovery.z", discovery(folder))
    write("openapi.z", {"v2": read(folder / "v2.json.gz"), "v3": documents, "schemas": schemas})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
