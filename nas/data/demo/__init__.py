"""The built-in demo set: scenes, a simulated sensor, and the files made of them."""
