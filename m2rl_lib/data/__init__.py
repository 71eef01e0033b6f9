"""Rows that stages train on and are asked: the micro world's generated ones, or the public blends, through the same code."""
