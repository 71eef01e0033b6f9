"""Experts merged by their weights: one file per method family, and `merge`, which reads recipes and runs them for notebook 05."""
