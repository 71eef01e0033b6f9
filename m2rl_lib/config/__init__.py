"""What a study is: `study` its typed parameters, `schedule` its stages, `locations` its folders, `model_names` its names."""
