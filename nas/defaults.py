"""Defaults of all commands: device, space, data."""

from nas.data.pairs import DataConfig

DEFAULT_DEVICE = "dimensity-1000-plus"
DEFAULT_SPACE = "mai21"
DEFAULT_DATA = DataConfig("demo")
