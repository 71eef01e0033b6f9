"""What numbers are worth: `graded_samples`, their `bootstrap` intervals and `averages`, `comparisons`, `three_scores` of a model, spread `over_seeds`, `rank_correlation`, `power`."""
