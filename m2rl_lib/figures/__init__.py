"""Figures: a `plot_*` takes a tidy frame and returns a Figure, in the one look of `style` from the `parts` that several share.

Notebooks call `drawing.show(plot, frame, folder, name)` with the `plot_*` of a research question's module, and notebook 20
`our_tables.show_both`, which draws a table of the paper and ours by the same function. `make figures` is `redraw`.
"""
