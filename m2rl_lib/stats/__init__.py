"""What numbers are worth: `bootstrap` intervals, paired `comparisons`, spread `over_seeds`, `rank_correlation`, `power`."""
