"""How long a network takes on a device: features, predictors, measured devices."""
