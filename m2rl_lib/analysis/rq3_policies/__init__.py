"""RQ3, policies: how far policies are from each other, who neighbours whom, and whether that predicts what a merge loses."""
