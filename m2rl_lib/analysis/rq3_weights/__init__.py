"""RQ3, weights: which weights RL changes, and in which direction.

`footprints` reads all checkpoints in one pass (notebook 09), `mask_overlap` makes tables and sentences of it (09 and 13).
"""
