"""The three trained stages: SFT, RLVR by GRPO (one domain or mixed) and MT-OPD."""

import warnings

# of vLLM 0.32, which our slow tests run; TRL says it at each of its imports, into every notebook
warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
