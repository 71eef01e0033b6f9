"""Completions of a model: `decoding` samples them, `tool_turns` plays the row's tools between its turns."""
