"""A check of a data set: what one pair measures, and which findings spoil a training."""
