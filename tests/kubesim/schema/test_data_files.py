"""The data files are read late, share what they can, and come from the generator."""

import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.schema.data import load, read
from kubesim.schema.registry import builtin
from kubesim.schema.types import kind_type, named, type_of

ROOT = Path(__file__).resolve().parents[3]
KIT = ROOT.parent / "shared" / "conformance" / "openapi"


def test_importing_the_schema_reads_no_data() -> None:
    program = (
        "import kubesim.schema.decode, kubesim.schema.types, kubesim.apiserver.kinds, kubesim.schema.data as d;"
        "print(d.load.cache_info().currsize)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "0"


def test_what_is_small_is_kept_and_what_is_big_is_not() -> None:
    assert load("types") is load("types")
    assert read("openapi") is not read("openapi")


def test_types_know_what_merges_and_what_is_owned() -> None:
    ports = named("core.v1.Container").fields["ports"].type
    assert (ports.keys, ports.merge_key, ports.list_type) == (
        ("containerPort", "protocol"),
        "containerPort",
        "map",
    )  # type: ignore[union-attr]
    assert ports.key_defaults == {"protocol": "TCP"}  # type: ignore[union-attr]
    volumes = named("core.v1.PodSpec").fields["volumes"].type
    assert volumes.retain_keys  # type: ignore[union-attr]
    assert named("meta.v1.LabelSelector").atomic


def test_every_resource_and_nearly_every_subresource_has_a_type() -> None:
    registry = builtin()
    untyped = {
        sub.kind
        for rt in registry.all()
        for sub in rt.subresources.values()
        if kind_type(sub.group or rt.group, sub.version or rt.version, sub.kind) is None
    }
    assert all(kind.endswith("Options") for kind in untyped)
    assert len({type_of(rt).name for rt in registry.all()}) == len(registry.all())


@pytest.mark.skipif(not KIT.is_dir(), reason="the conformance kit is not beside the project")
def test_the_generator_makes_the_files_that_are_shipped(tmp_path: Path) -> None:
    source = (ROOT / "scripts" / "build_schema.py").read_text()
    program = tmp_path / "scripts" / "build_schema.py"
    program.parent.mkdir()
    program.write_text(source)
    (program.parent / "field_shapes.txt").write_text((ROOT / "scripts" / "field_shapes.txt").read_text())
    out = tmp_path / "src" / "kubesim" / "schema" / "data"
    out.mkdir(parents=True)
    subprocess.run([sys.executable, str(program), str(KIT)], capture_output=True, timeout=100, check=True)
    shipped = ROOT / "src" / "kubesim" / "schema" / "data"
    for name in ("types.z", "discovery.z", "openapi.z"):
        assert (out / name).read_bytes() == (shipped / name).read_bytes()
