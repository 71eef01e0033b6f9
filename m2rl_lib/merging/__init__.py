"""Experts merged by their weights: one file per method family, and `merge`, which reads recipes and runs them.

Notebook 05 calls `merge.run` (all merges of the schedule), `merge.read_by` and `merge.shifts` (norms and cosines of task vectors).
"""
