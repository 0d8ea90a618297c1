"""Runtime prediction: kernels, predictors, measured devices."""
