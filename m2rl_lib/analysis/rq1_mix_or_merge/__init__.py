"""RQ1: what mixing and merging cost, and what each side chooses among (`budgets`, notebook 11)."""
