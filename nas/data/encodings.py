"""How RAW values may be encoded: in a sensor's dump, and at the input of an exported network. Imports nothing heavy."""

# How values lie in a dump, and of how many bits they are where that is fixed. MIPI packs four values of 10 bits into
# five bytes, two of 12 bits into three: the upper eight bits of each, then the lower ones. Source: MIPI CSI-2, RAW10
# and RAW12; the same in Android's ImageFormat.
STORAGES: dict[str, int | None] = {"u16le": None, "u16be": None, "mipi10": 10, "mipi12": 12}

NORMALIZED = "normalized"
# What the input of a file may hold: values from black to white as 0 … 1, or counts of so many bits.
INPUT_BITS: dict[str, int | None] = {NORMALIZED: None, "raw10": 10, "raw12": 12, "raw14": 14}
