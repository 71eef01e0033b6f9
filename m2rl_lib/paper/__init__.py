"""The paper's published tables and findings, and the one ledger that judges them.

`claims.csv` lists the findings; `claims.entries(p, "RQ4")` gives the ledger's rows of a question, or all, which notebooks 11 to
15 and 21 show; `claim_ledger` holds the rule; `score_tables` makes what anyone's scores can say; `released_checkpoints` is
notebook 22's.
"""
