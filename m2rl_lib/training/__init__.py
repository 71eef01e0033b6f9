"""The three trained stages: SFT, RLVR by GRPO (one domain or mixed) and MT-OPD.

Notebooks 02, 03, 04 and 06 call `sft.run`, `grpo.run_expert`, `grpo.run_mixed` and `mt_opd.run`. `trl_adapter` has every private
name of TRL that is used, `resume` goes on after a kill, `launch` starts several processes.
"""
