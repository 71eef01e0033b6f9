"""Commands: run a notebook as a stage (`run_notebook`), say what runs again (`reruns`), plan a study (`plan`), list its data
(`data_report`), judge a table of scores (`judge_scores`), build the site (`build_site`).

Notebook 01 calls `data_report.source_table`, notebook 21 `judge_scores`; the Snakefile and the Makefile call the others.
"""
