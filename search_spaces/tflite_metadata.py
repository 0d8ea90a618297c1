"""Metadata entries of a .tflite file, which interpreters and delegates skip."""

import numpy as np

from search_spaces.tflite_file import pack, parse, schema


def with_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """Return the file with one more entry; raise ExportError for bytes that are no .tflite."""
    model = parse(content)
    buffer, entry = schema().BufferT(), schema().MetadataT()
    buffer.data = np.frombuffer(data, np.uint8)
    entry.name, entry.buffer = name.encode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    return pack(model)


def read_metadata(content: bytes, name: str) -> bytes | None:
    """Return the entry of that name, None where there is none; raise ExportError for bytes that are no .tflite."""
    model = parse(content)
    for entry in model.metadata or ():
        if entry.name == name.encode() and entry.buffer < len(model.buffers):
            data = model.buffers[entry.buffer].data
            return b"" if data is None else bytes(data)
    return None
