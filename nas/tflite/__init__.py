""".tflite files on this machine: running them, their input contract and encoding, their receptive field."""
