"""Training losses: on pixels, on features of VGG-19, and by a discriminator."""
