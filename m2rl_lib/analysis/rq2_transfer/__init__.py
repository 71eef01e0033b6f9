"""RQ2: transfer between domains (`transfer_matrix`), the gradient lens and the manipulation check.

Notebook 09 calls `policy_gradients.along_run`; 12 the others.
"""
