"""What numbers are worth: `bootstrap` intervals, `comparisons`, `three_scores` of a model, spread `over_seeds`, `rank_correlation`, `power`."""
