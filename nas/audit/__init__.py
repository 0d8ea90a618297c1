"""How far short training is to be trusted: trainings, rank agreement, the comparison of the designs."""
