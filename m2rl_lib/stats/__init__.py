"""What numbers are worth: bootstrap over problems and seeds, paired comparisons, multiplicity, rank correlation, power.

Notebooks call `bootstrap.score_table`, `average_table` and `choose_on_selection`, `comparisons.comparison_table` and
`verdict_sentence`, `over_seeds.spread_table`, `rank_correlation`, `learning_curves.curve_table`.
"""
