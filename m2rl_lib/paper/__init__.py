"""The paper's published tables and findings, and the one ledger that judges them.

`claims.csv` lists the findings, `claims.entries(p, "RQ4")` judges those of a question, by the rule in `claim_ledger`.
"""
