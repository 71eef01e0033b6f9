"""The paper's published tables and findings (`claims.csv`), and the one ledger that judges them (`claims.entries`)."""
