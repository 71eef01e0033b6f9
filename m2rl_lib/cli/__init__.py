"""Commands: run a notebook as a stage, say what runs again, plan a study, list its data, judge a table of scores, build the site."""

import sys

# nbformat imports jsonschema, which checks addresses by this package where it is installed: two seconds of every stage, for no notebook
sys.modules.setdefault("rfc3987_syntax", None)
