"""m2rl: is it better to mix domains in one RL run, or to merge one expert a domain?"""
