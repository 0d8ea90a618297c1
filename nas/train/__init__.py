"""Training: recipes, losses, one step, the loop, evaluation, worker processes, long runs, checkpoints.

Called as a function, `nas.train` is `nas.api.train`.
"""
