"""The search: study on disk, budget, successive halving, Pareto front, constraints, Optuna, driver."""
