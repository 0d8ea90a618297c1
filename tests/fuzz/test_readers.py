"""Mutated inputs through the command, in this process: exit code 0 or 2, one sentence, no traceback, under ten seconds.

Mutations know the structure of a file: chunks of PNG, entries of TIFF and DNG, tables of .tflite, values of JSON. How
many inputs are tried is ISP_NAS_FUZZ_SCALE times what CI tries.
"""

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from dng import Camera, noise, write_mosaic
from hypothesis import given
from hypothesis import strategies as st
from isp_builder import isp
from mutations import ODD_NAMES, ODD_NUMBERS, flipped, holds, manifest, numbers, tries
from PIL import Image

from nas.tflite.input_contract import METADATA
from search_spaces.tflite_file import pack, parse
from search_spaces.tflite_metadata import with_metadata

# Pictures


def png(content: bytes) -> st.SearchStrategy[bytes]:
    """Change the fields of a header, chunks and their order, with sums that are right again, or some bytes."""
    return st.one_of(flipped(content), st.integers(0, 2**32 - 1).map(lambda seed: with_odd_chunks(content, seed)))


def with_odd_chunks(content: bytes, seed: int) -> bytes:
    random, chunks = Random(seed), list(png_chunks(content))
    how = random.choice(("header", "chunk", "order", "pixels"))
    if how == "header":
        header = bytearray(chunks[0][1])
        at, size = random.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (12, 1)))
        number = random.choice([random.randrange(2**32), random.choice(ODD_NUMBERS)])
        header[at : at + size] = struct.pack(">I", number)[-size:]
        chunks[0] = (b"IHDR", bytes(header))
    elif how == "chunk":
        chunks.insert(random.randint(0, len(chunks)), (random.choice(CHUNKS), random.randbytes(random.randint(0, 64))))
    elif how == "order":
        random.shuffle(chunks)
    else:
        unpacked = bytearray(zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT")))
        for _ in range(random.randint(1, 4)):
            unpacked[random.randrange(len(unpacked))] = random.randrange(256)
        del unpacked[random.choice((random.randrange(len(unpacked)), len(unpacked))) :]
        chunks = [c for c in chunks if c[0] not in (b"IDAT", b"IEND")]
        chunks += [(b"IDAT", zlib.compress(bytes(unpacked))), (b"IEND", b"")]
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


CHUNKS = (b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"eXIf", b"acTL", b"IDAT", b"IEND")
ENTRY = (("<H", 0, 65535), ("<H", 2, 20), ("<I", 4, 2**32 - 1), ("<I", 8, 2**32 - 1))  # tag, type, count, value
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
    Camera().write_with_preview(folder / "preview.dng", mosaic, picture)
    Camera(orientation=5, active=(0, 0, 30, 30)).write(folder / "turned.dng", mosaic)
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


@tries(150)
@given(data=st.data())
@pytest.mark.parametrize("name", ["m.dng", "preview.dng", "turned.dng", "m.png"])
def test_raw_files(
    folder: Path, seeds: dict[str, bytes], network: Path, name: str, data: st.DataObject, tmp_path_factory: Any
) -> None:
    content = data.draw((tiff if name.endswith(".dng") else png)(seeds[name]))
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
        setattr(part, field, draw(st.sampled_from(ODD_NAMES)))
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


CONTRACT = {
    "raw": {"bits": 10, "black": 0, "white": 1023, "pattern": "RGGB", "packing": "challenge"},
    "input_levels": {"black": 0.0, "white": 1.0},
}


@tries(100)
@given(data=st.data())
def test_what_networks_say_of_their_input(seeds: dict[str, bytes], data: st.DataObject, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("net")
    content = data.draw(manifest(json.dumps(CONTRACT)))
    (place / "net.tflite").write_bytes(with_metadata(isp(16, 16), METADATA, content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.tflite.isp_file.require_runs", lambda *_: None)  # the file is whole
        holds("render", place / "net.tflite", folder_of(seeds, place), "--out", place / "out")
    shutil.rmtree(place)


# Texts


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
