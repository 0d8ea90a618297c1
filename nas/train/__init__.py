"""Training: recipes, losses, one step, the loop, evaluation, worker processes, long runs, checkpoints."""
