"""Bundles from strangers: what a digest would not cover, what would hang or crash a reader."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest

from common.bundle import load_bundle, write_bundle
from common.bundle.external_data import require_self_contained
from common.domain.errors import ConfigurationError, EngineError
from common.domain.placement import Stage
from common.engines.registry import load_engine
from tests.harness import TOY_BUNDLE
from tests.unit.bundle.test_bundle import FIRST, SECOND, manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "backbone.onnx").write_bytes(FIRST)
    (folder / "transformer.onnx").write_bytes(SECOND)
    write_bundle(folder, manifest())
    return folder


def field(number: int, content: bytes) -> bytes:
    """A field of bytes or of a message, which are shorter than 128 bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(key: int, value: int) -> bytes:
    return varint(key << 3) + varint(value)


# A tensor whose data are elsewhere, told in either way.
BY_ENTRY = field(13, field(1, b"location") + field(2, b"weights.bin"))
BY_LOCATION = number(14, 1)
INLINE = field(1, b"") + number(2, 1) + field(9, b"\0\0\0\0") + number(14, 0)


def in_initializer(tensor: bytes) -> bytes:
    return field(7, field(5, tensor))


def in_constant(tensor: bytes) -> bytes:
    return field(7, field(1, field(4, b"Constant") + field(5, field(5, tensor))))


def in_tensors_of_a_function(tensor: bytes) -> bytes:
    return field(25, field(7, field(5, field(10, tensor))))


def in_a_functions_default(tensor: bytes) -> bytes:
    return field(25, field(11, field(5, tensor)))


def in_sparse_values(tensor: bytes) -> bytes:
    return field(7, field(15, field(1, tensor)))


def in_sparse_indices_of_an_attribute(tensor: bytes) -> bytes:
    return field(7, field(1, field(5, field(22, field(2, tensor)))))


def in_training(tensor: bytes) -> bytes:
    return field(20, field(2, field(5, tensor)))


def in_a_deep_subgraph(tensor: bytes) -> bytes:
    graph = field(5, tensor)
    for _ in range(300):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def in_the_second_of_two_graphs(tensor: bytes) -> bytes:
    return field(7, field(2, b"first")) + in_initializer(tensor)


PLACES: List[Callable[[bytes], bytes]] = [
    in_initializer,
    in_constant,
    in_tensors_of_a_function,
    in_a_functions_default,
    in_sparse_values,
    in_sparse_indices_of_an_attribute,
    in_training,
    in_a_deep_subgraph,
    in_the_second_of_two_graphs,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_data_in_another_file_are_found_wherever_a_tensor_can_stand(
    place: Callable[[bytes], bytes],
) -> None:
    require_self_contained(place(INLINE), "a.onnx")
    # The enum's upper bits do not count, so this is EXTERNAL, too.
    for elsewhere in (
        BY_ENTRY,
        BY_LOCATION,
        number(14, (1 << 32) + 1),
        BY_LOCATION + number(14, 0),
    ):
        with pytest.raises(ConfigurationError, match="a.onnx keeps tensors in another file"):
            require_self_contained(place(INLINE + elsewhere), "a.onnx")


def test_a_compiled_part_may_be_in_another_file_as_well() -> None:
    with pytest.raises(ConfigurationError, match="holds a compiled part"):
        require_self_contained(field(7, field(1, field(4, b"EPContext"))), "a.onnx")


@pytest.mark.parametrize(
    "content",
    [
        b"first half",
        b"\x3a",
        b"\x3a\x05ab",
        field(7, b"\x0a\x7f"),
        b"\x00\x01",
        b"\x80" * 20,
        b"\x3b\x3c",
        b"\x3d\x00",
        b"\x39\x00\x00",
    ],
)
def test_what_is_no_protobuf_is_no_onnx_file(content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="is not an ONNX file"):
        require_self_contained(content, "a.onnx")


def test_a_file_of_nothing_but_fields_takes_no_minutes() -> None:
    with pytest.raises(ConfigurationError, match="has more than 500000 parts"):
        require_self_contained(number(1, 1) * 500_001, "a.onnx")


def test_what_the_onnx_package_saves_with_external_data_is_refused(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(TOY_BUNDLE / "backbone.onnx"))
    path = folder / "backbone.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx keeps tensors in another file"):
        write_bundle(folder, manifest())
    content = json.loads((folder / "bundle.json").read_text())
    content["files"]["backbone.onnx"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx keeps tensors in another file"):
        load_bundle(folder).onnx_path(Stage.BACKBONE)


def test_every_shipped_file_is_whole() -> None:
    for name in ("demo-r50", "demo-r34", "demo-dfine"):
        bundle = load_bundle(Path(__file__).parents[3] / "models" / name)
        for file in bundle.manifest.files:
            assert bundle.content(file)


def edit(folder: Path, change: Callable[[Dict[str, Any]], None]) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("normalization", "std"), [0.2, 0.0, 0.2], r"normalization\.std\.1: "),
        (("normalization", "std"), [0.2, 1e-300, 0.2], r"normalization\.std\.1: "),
        (("normalization", "std"), [float("nan"), 0.2, 0.2], r"normalization\.std\.0: "),
        (("normalization", "mean"), [0.2, float("inf"), 0.2], r"normalization\.mean\.1: "),
        (("normalization", "mean"), [0.2, float("nan"), 0.2], r"normalization\.mean\.1: "),
        (("input", "height"), 100_000, r"input\.fixed\.height: "),
        (("input", "width"), 1 << 70, r"input\.fixed\.width: "),
        (("architecture", "queries"), 10**9, r"architecture\.queries: "),
        (("architecture", "classes"), 10**9, r"architecture\.classes: "),
        (("architecture", "hidden_dim"), 1 << 20, r"architecture\.hidden_dim: "),
        (("architecture", "base_width"), 1 << 20, r"architecture\.base_width: "),
        (("architecture", "encoder_layers"), 1000, r"architecture\.encoder_layers: "),
        (("name",), "x" * 300, "name: "),
        (("files", "../backbone.onnx"), "0" * 64, "'../backbone.onnx' is no file directly in"),
        (("files", "/etc/passwd"), "0" * 64, "'/etc/passwd' is no file directly in"),
        (("files", "a\x1b[2J"), "0" * 64, r"'a\\x1b\[2J' is no file directly in"),
    ],
)
def test_numbers_and_names_beyond_the_limits(
    folder: Path, where: Sequence[str], value: object, message: str
) -> None:
    def change(content: Dict[str, Any]) -> None:
        for key in where[:-1]:
            content = content[key]
        content[where[-1]] = value

    edit(folder, change)
    with pytest.raises(ConfigurationError, match=message):
        load_bundle(folder)


def test_a_key_that_is_there_twice(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    for key, twice in (
        ("name", text.replace('"name": "small"', '"name": "small",\n  "name": "other"')),
        ("backbone.onnx", text.replace('"files": {', '"files": {"backbone.onnx": "",')),
    ):
        (folder / "bundle.json").write_text(twice)
        with pytest.raises(ConfigurationError, match=f"the key '{key}' more than once"):
            load_bundle(folder)


def test_a_manifest_larger_than_any(folder: Path) -> None:
    (folder / "bundle.json").write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(ConfigurationError, match=r"bundle\.json is larger than 4194304 bytes"):
        load_bundle(folder)


def test_a_manifest_nested_without_end(folder: Path) -> None:
    (folder / "bundle.json").write_text('{"name": ' + "[" * 100_000)
    with pytest.raises(ConfigurationError, match="recursion limit"):
        load_bundle(folder)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(str(path))


def directory(path: Path, _: Path) -> None:
    path.mkdir()


def link_out(path: Path, outside: Path) -> None:
    (outside / path.name).write_bytes(FIRST)
    path.symlink_to(outside / path.name)


def link_to_a_device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (pipe, "is no regular file"),
        (directory, "is no regular file"),
        (link_out, "is a link out of the bundle's folder"),
        (link_to_a_device, "is a link out of the bundle's folder"),
    ],
)
@pytest.mark.parametrize("name", ["backbone.onnx", "bundle.json"])
def test_only_the_folders_own_regular_files_are_read(
    folder: Path, tmp_path: Path, place: Callable[[Path, Path], None], message: str, name: str
) -> None:
    (folder / name).unlink()
    place(folder / name, tmp_path)
    with pytest.raises(ConfigurationError, match=f"{name} {message}"):
        load_bundle(folder).onnx_path(Stage.BACKBONE)
    if name == "backbone.onnx":
        with pytest.raises(ConfigurationError, match=f"{name} {message}"):
            write_bundle(folder, manifest())


def test_links_within_the_folder_are_followed(folder: Path) -> None:
    """As Kubernetes mounts files: each is a link to one in a folder beside it."""
    (folder / "..data").mkdir()
    for name in ("bundle.json", "backbone.onnx"):
        os.replace(str(folder / name), str(folder / "..data" / name))
        (folder / name).symlink_to(Path("..data") / name)
    assert load_bundle(folder).onnx_path(Stage.BACKBONE) == folder / "backbone.onnx"


@pytest.mark.parametrize("engine", ["onnxruntime", "none", "openvino", "torch"])
def test_an_engine_loads_what_was_checked_or_nothing(tmp_path: Path, engine: str) -> None:
    pytest.importorskip(engine if engine in ("openvino", "torch") else "onnxruntime")
    source = Path(__file__).parents[2] / "data" / "demo-r18"
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    bundle = load_bundle(tmp_path)
    path = bundle.onnx_path(Stage.BACKBONE)
    sha256 = bundle.sha256(path.name)
    load_engine(engine, path, 1, sha256=sha256).close()
    # After the check, and before the engine opens the file.
    path.write_bytes(path.read_bytes() + field(2, b"changed"))
    load_engine(engine, path, 1).close()
    with pytest.raises(EngineError, match="the file has just been changed"):
        load_engine(engine, path, 1, sha256=sha256)
