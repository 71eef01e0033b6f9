"""Models scored and models as judges.

`avg_at_k` asks the study's models K times per problem (Avg@K); `nine_benchmarks` names the paper's nine and reads their
rows, `served_model` scores a served model on them, `live_code_bench` grades LiveCodeBench's programs in our sandbox;
`judging` lets models judge trajectories (RQ5). Notebook 07 calls `avg_at_k`, 08 `judging`.
"""
