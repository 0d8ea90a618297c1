"""Measure how far short training can be trusted: trainings, rank agreement, comparison of the designs."""
