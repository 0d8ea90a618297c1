"""A study as something to look at: its records as plain data, and that as one self-contained page.

Start at `nas.report.study_report`.
"""
