"""RQ3, weights: which weights RL changes, and in which direction."""
