"""RQ2: transfer between domains (`transfer_matrix`), the gradient lens and the manipulation check."""
