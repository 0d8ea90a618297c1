"""What an integer file of a trained network holds: equal channels, ranges of maps, rounded weights."""
