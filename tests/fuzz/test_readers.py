"""Mutated inputs through the command, in this process: exit code 0 or 2, one sentence, no traceback, under ten seconds.

Mutations know the structure of a file: chunks of PNG, entries of TIFF and DNG, tables of .tflite, values of JSON. How
many inputs are tried is ISP_NAS_FUZZ_SCALE times what CI tries.
"""

import json
import os
import shutil
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from dng import Camera, noise, write_mosaic
from flow import in_process
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from isp_builder import isp
from PIL import Image

from search_spaces.tflite_file import pack, parse

SCALE = float(os.environ.get("ISP_NAS_FUZZ_SCALE", "1"))
CI_SHARE = 0.4  # of the counts below, about 800 inputs: all of them would take two minutes of a core and more
LONGEST_S = 10
ODD_NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 1e308, -1e308, 2**63, 10**400, "", "\x1b[2J", "[/red]", "\ud800", "a" * 5000, [], {}, [[]],
    {"a": {}}, float("nan"), float("inf"),
)  # fmt: skip
ODD_NAMES = (b"", b"\x1b]0;x\x07", b"[/red]", b"\xff\xfe", "\u202ex".encode(), b"a" * 999)
CHUNKS = (b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"eXIf", b"acTL", b"IDAT", b"IEND")
ENTRY = (("<H", 0, 65535), ("<H", 2, 20), ("<I", 4, 2**32 - 1), ("<I", 8, 2**32 - 1))  # tag, type, count, value
numbers = st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(0, 2**32 - 1))


def tries(count: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=max(1, round(count * SCALE * CI_SHARE)),
        deadline=None,
        derandomize=SCALE == 1,  # CI tries the same inputs each time, a longer run others
        database=None,
        phases=[Phase.generate],  # shrinking takes more runs of the command than finding
        suppress_health_check=list(HealthCheck),
    )


def holds(*arguments: object) -> None:
    """Run a command and fail unless it ends as it should."""
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as the command does; pytest makes errors of them again
        done = in_process(*arguments)
    assert done.returncode in (0, 2), done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    shown = done.stderr.replace("\n", "") + done.stdout.replace("\n", "")
    assert shown.isprintable() or all(each.isprintable() or each in "\u200c\u200d" for each in shown), repr(shown)
    assert done.returncode == 0 or done.stderr.strip() or done.stdout.strip(), "a refusal without a reason"
    assert time.monotonic() - begun < LONGEST_S


# Bytes


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Change, cut, double or leave out some bytes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(("flip", "word", "cut", "zero", "drop", "double")))
        if how == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "word":
            data[at : at + 4] = struct.pack("<I", draw(numbers))[: len(data) - at]
        elif how == "cut":
            del data[at:]
        elif how == "zero":
            length = draw(st.integers(1, 64))
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif how == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


# Pictures


@st.composite
def png(draw: st.DrawFn, content: bytes) -> bytes:
    """Change the fields of a header, chunks and their order, with sums that are right again."""
    chunks = list(png_chunks(content))
    how = draw(st.sampled_from(("header", "chunk", "order", "bytes", "pixels")))
    if how == "bytes":
        return draw(flipped(content))
    if how == "header":
        header = bytearray(chunks[0][1])
        field = draw(st.sampled_from((("<", 0, 4), ("<", 4, 4), ("b", 8, 1), ("b", 9, 1), ("b", 10, 1), ("b", 12, 1))))
        _, at, size = field
        header[at : at + size] = struct.pack(">I", draw(numbers))[-size:]
        chunks[0] = (b"IHDR", bytes(header))
    elif how == "chunk":
        kind = draw(
            st.sampled_from((b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"eXIf", b"acTL", b"IDAT", b"IEND"))
        )
        chunks.insert(draw(st.integers(0, len(chunks))), (kind, draw(st.binary(max_size=64))))
    elif how == "order":
        chunks = draw(st.permutations(chunks))
    else:
        unpacked = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
        chunks = [c for c in chunks if c[0] not in (b"IDAT", b"IEND")]
        chunks += [(b"IDAT", zlib.compress(draw(flipped(unpacked)))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def tiff(content: bytes) -> st.SearchStrategy[bytes]:
    """Change tag, type, count or value of entries of the first directory, or some bytes."""
    return st.one_of(flipped(content), st.integers(0, 2**32 - 1).map(lambda seed: with_odd_entries(content, seed)))


def with_odd_entries(content: bytes, seed: int) -> bytes:
    random, data = Random(seed), bytearray(content)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for _ in range(random.randint(1, 3)):
        form, offset, most = random.choice(ENTRY)
        value = random.choice([random.randint(0, most), *(number for number in ODD_NUMBERS if number <= most)])
        struct.pack_into(form, data, at + 2 + 12 * random.randrange(count) + offset, value)
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of which one file is exchanged, a network, its card and RAW files."""
    root = tmp_path_factory.mktemp("fuzz")
    rng = np.random.default_rng(0)
    for split, names in (("train", ("0", "1")), ("val", ("2",))):
        for name in names:
            write_mosaic(root / "pairs" / split / "mediatek_raw" / f"{name}.png", noise(32, 32, seed=int(name)))
            target = root / "pairs" / split / "fujifilm" / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(target)
    return root


SIDES = (32, 32)


@pytest.fixture(scope="module")
def seeds(folder: Path) -> dict[str, bytes]:
    mosaic = noise(*SIDES)
    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(mosaic).save(folder / "m.tif")
    Image.fromarray(picture).save(folder / "t.tif")
    Image.fromarray(picture).save(folder / "t.jpg")
    Image.fromarray(picture).save(folder / "t.png")
    Camera().write(folder / "m.dng", mosaic)
    write_mosaic(folder / "m.png", mosaic)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


MUTATE: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    "m.png": png,
    "t.png": png,
    "m.tif": tiff,
    "t.tif": tiff,
    "t.jpg": flipped,
}


@tries(100)
@given(data=st.data())
@pytest.mark.parametrize("name", MUTATE)
def test_pictures_of_pairs(folder: Path, seeds: dict[str, bytes], name: str, data: st.DataObject) -> None:
    place = folder / "pairs" / "train" / ("mediatek_raw" if name.startswith("m") else "fujifilm")
    for old in place.glob("1.*"):
        old.unlink()
    (place / "1").with_suffix(Path(name).suffix).write_bytes(data.draw(MUTATE[name](seeds[name])))
    try:
        holds("data", "check", folder / "pairs")
    finally:
        for old in place.glob("1.*"):
            old.unlink()
        (place / "1.png").write_bytes(seeds["m.png" if name.startswith("m") else "t.png"])


# RAW files


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that a card describes, so that it needs no trial of its own."""
    root = tmp_path_factory.mktemp("network")
    content = isp(SIDES[0] // 2, SIDES[1] // 2)
    (root / "model.tflite").write_bytes(content)
    fmt = {"bits": 10, "black": 0, "white": 1023, "pattern": "RGGB", "packing": "challenge"}
    files = [{"file": "model.tflite", "sha256": sha256(content).hexdigest()}]
    (root / "card.json").write_text(json.dumps({"raw": fmt, "precisions": files}))
    return root / "model.tflite"


@tries(300)
@given(data=st.data())
@pytest.mark.parametrize("name", ["m.dng", "m.png"])
def test_raw_files(
    folder: Path, seeds: dict[str, bytes], network: Path, name: str, data: st.DataObject, tmp_path_factory: Any
) -> None:
    content = data.draw((tiff if name == "m.dng" else png)(seeds[name]))
    place = tmp_path_factory.mktemp("raw")
    (place / name).write_bytes(content)
    holds("render", network, place / name, "--out", place / "out", "--convert")
    shutil.rmtree(place)


@tries(100)
@given(data=st.data())
def test_dumps(folder: Path, network: Path, data: st.DataObject, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("dump")
    (place / "frame.raw").write_bytes(data.draw(st.binary(max_size=64)) + bytes(data.draw(st.integers(0, 64))))
    sides = data.draw(st.tuples(numbers, numbers))
    storage = data.draw(st.sampled_from(("u16le", "u16be", "mipi10", "mipi12")))
    size = ("--size", f"{sides[0]}x{sides[1]}", "--storage", storage) if data.draw(st.booleans()) else ()
    holds("render", network, place / "frame.raw", "--out", place / "out", *size)
    shutil.rmtree(place)


# Networks


@st.composite
def tflite(draw: st.DrawFn, content: bytes) -> bytes:
    """Change numbers of the schema's objects: shapes, indices, options, types, buffers, names."""
    if draw(st.integers(0, 3)) == 0:
        return draw(flipped(content))
    model = parse(content)
    for _ in range(draw(st.integers(1, 3))):
        _change(draw, model)
    try:
        return pack(model)
    except Exception:  # what cannot be packed is no file that anybody could send
        return content


def _change(draw: st.DrawFn, model: Any) -> None:
    graph = model.subgraphs[0]
    parts = [*graph.tensors, *graph.operators, *model.operatorCodes, graph]
    parts += [op.builtinOptions for op in graph.operators if op.builtinOptions is not None]
    part = draw(st.sampled_from(parts))
    field = draw(st.sampled_from(sorted(vars(part))))
    value = getattr(part, field)
    small = draw(st.sampled_from((-(2**31), -2, -1, 0, 1, 2, 3, 4, 5, 7, 99, 127, 2**31 - 1)))
    if isinstance(value, bytes):
        setattr(
            part,
            field,
            draw(st.sampled_from((b"", b"\x1b]0;x\x07", b"[/red]", b"\xff\xfe", "\u202ex".encode(), b"a" * 999))),
        )
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        setattr(part, field, small)
    elif isinstance(value, list | np.ndarray) and len(value) and isinstance(value[0], int | np.integer):
        changed = [int(each) for each in value]
        at = draw(st.integers(0, len(changed) - 1))
        how = draw(st.sampled_from(("set", "drop", "double", "none")))
        if how == "set":
            changed[at] = small
        elif how == "drop":
            del changed[at]
        elif how == "double":
            changed.insert(at, changed[at])
        setattr(part, field, None if how == "none" else changed)
    elif hasattr(value, "scale"):
        value.scale, value.zeroPoint = [draw(st.sampled_from((0.0, -1.0, float("nan"), float("inf"), 1e-30)))], [small]


@tries(300)
@given(data=st.data())
@pytest.mark.parametrize("command", [("check",), ("latency", "predict")], ids=["check", "predict"])
def test_networks(network: Path, command: tuple[str, ...], data: st.DataObject, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("net")
    sides = data.draw(st.sampled_from(((16, 16), (-1, -1))))
    layers = data.draw(st.lists(st.sampled_from(("conv 3", "depthwise 3", "tanh", "conv 1")), min_size=1, max_size=2))
    (place / "net.tflite").write_bytes(data.draw(tflite(isp(*sides, layers))))
    holds(*command, place / "net.tflite")
    shutil.rmtree(place)


@tries(8)
@given(data=st.data())
def test_networks_are_run_apart(seeds: dict[str, bytes], data: st.DataObject, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("net")
    (place / "net.tflite").write_bytes(data.draw(tflite(isp(16, 16))))
    (place / "m.png").write_bytes(seeds["m.png"])
    holds("render", place / "net.tflite", place / "m.png", "--out", place / "out")
    shutil.rmtree(place)


# Texts


@st.composite
def manifest(draw: st.DrawFn, text: str) -> bytes:
    """Change values and keys of JSON, or its bytes; nest it too deeply."""
    how = draw(st.sampled_from(("value", "value", "key", "bytes", "deep")))
    if how == "bytes":
        return draw(flipped(text.encode()))
    if how == "deep":
        return b'{"raw": ' + b"[" * draw(st.sampled_from((100, 5000, 100_000)))
    data = json.loads(text)
    at = data
    while isinstance(at, dict) and at and draw(st.booleans()):
        inner = at[draw(st.sampled_from(sorted(at)))]
        if not isinstance(inner, dict) or not inner:
            break
        at = inner
    key = draw(st.sampled_from(sorted(at)))
    value = draw(st.sampled_from(ODD_VALUES))
    if how == "key":
        del at[key]
    else:
        at[key] = value
    return json.dumps(data).encode()


@tries(300)
@given(data=st.data())
def test_cards(network: Path, seeds: dict[str, bytes], data: st.DataObject, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("card")
    (place / "model.tflite").write_bytes(network.read_bytes())
    (place / "card.json").write_bytes(data.draw(manifest((network.parent / "card.json").read_text())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.tflite.isp_file.require_runs", lambda *_: None)  # the file is whole
        holds("render", place / "model.tflite", folder_of(seeds, place), "--out", place / "out")
    shutil.rmtree(place)


def folder_of(seeds: dict[str, bytes], place: Path) -> Path:
    (place / "m.png").write_bytes(seeds["m.png"])
    return place / "m.png"
