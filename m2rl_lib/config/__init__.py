"""What a study is: `study` its typed parameters, `schedule` its stages, `locations` its folders, `model_names` its names.

Notebooks call `study.notebook_parameters` first, then `locations` and `model_names` for models and figures.
"""
