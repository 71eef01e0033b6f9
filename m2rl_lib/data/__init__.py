"""Rows that stages train on and are asked: the micro world's generated ones, or the public blends, through the same code.

`problem_sets` gives problems of a domain and an RL run's prompts, `sft_corpus` the micro world's SFT corpus, `sft_blend`
and `rl_blend` the published ones, `judge_prompts` what a judge is asked. Notebooks call `problem_sets`.
"""
