"""Finding, training, judging and shipping one network."""
