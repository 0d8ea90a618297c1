"""Trainings on other machines, on Dask's `distributed`: a hub beside the driver, and agents with training processes.

Nothing of it is loaded by a search of one machine.
"""
