"""Render pictures from RAW through a .tflite file: packing, tiles, image files.

Called as a function, `nas.render` is `nas.api.render`.
"""
