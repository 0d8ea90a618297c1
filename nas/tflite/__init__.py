"""A .tflite file on this machine: running it, its input contract and encoding, its receptive field."""
