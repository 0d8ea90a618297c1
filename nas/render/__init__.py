"""Render pictures from RAW through a .tflite file: packing, tiles, image files."""
