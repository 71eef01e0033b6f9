"""RQ3, policies: how far policies are from each other, who neighbours whom, and whether that predicts what a merge loses.

Notebook 09 calls `policy_samples.kl_rows`; 13 reads its rows with `policy_kl`, `policy_neighbours`, `prediction`, `replication`.
"""
