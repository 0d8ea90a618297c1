"""The search: study on disk, budget, successive halving, Pareto front, constraints, Optuna, driver.

Called as a function, `nas.search` is `nas.api.search`.
"""
