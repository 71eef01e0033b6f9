"""Completions of a model: `decoding` samples them, `tool_turns` plays the row's tools between its turns.

Notebooks do not call it; training, evaluation and the analyses of policies do (`decoding.load_model`, `decoding.sample`).
"""
