"""The three trained stages: SFT, RLVR by GRPO (one domain or mixed) and MT-OPD."""
