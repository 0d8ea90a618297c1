"""Training pairs: finding, reading, checking and augmenting RAW→RGB pairs, and the built-in demo set."""
