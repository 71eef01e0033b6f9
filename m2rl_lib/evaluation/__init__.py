"""Models scored (`avg_at_k`; the paper's `nine_benchmarks` by `served_model` and `live_code_bench`) and models as judges (`judging`, RQ5)."""
