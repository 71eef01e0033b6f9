"""Figures: a `plot_*` takes a tidy frame, whose columns it checks and names, and returns a Figure in the look of `style`.

Numbers are points unless it says otherwise; low and high are a 95% interval, n counts problems; all may be missing."""
