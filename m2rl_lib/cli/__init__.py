"""Commands: run a notebook as a stage, say what runs again, plan a study, list its data, judge a table of scores, build the site."""
