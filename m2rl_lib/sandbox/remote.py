"""Programs on a remote SandboxFusion server (bytedance/SandboxFusion, `POST /run_code`), for clusters: the local answers."""

import math
from concurrent.futures import ThreadPoolExecutor

from m2rl_lib.sandbox.bubblewrap import Run

AT_ONCE = 64  # programs; the server's cores do the work, the published code sends up to 256


def run_once(url: str, program: str, text: str, limits: dict) -> Run | None:
    """One program on one input, or None where the server failed."""
    import httpx  # slow to import, and not needed where programs run here

    body = {"code": program, "language": "python", "stdin": text}
    body |= {"run_timeout": limits["timeout"], "memory_limit_MB": math.ceil(limits["memory"] / (1 << 20))}
    try:
        answer = httpx.post(url.rstrip("/") + "/run_code", json=body, timeout=limits["timeout"] + 30).raise_for_status().json()
        result = answer.get("run_result") or {}
        state, written = result.get("status"), (result.get("stdout") or "").encode("utf-8", "replace")
        if answer["status"] == "SandboxError" or state not in ("Finished", "TimeLimitExceeded"):
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, httpx.HTTPError, httpx.InvalidURL):
        return None
    status = "timeout" if state == "TimeLimitExceeded" else "ok" if result.get("return_code") == 0 else "error"
    return Run(written[: limits["output"]], "output" if len(written) > limits["output"] else status)


def run_jobs(url: str, jobs: list[tuple], limits: dict) -> list[list[Run] | None]:
    """Each job (program, inputs) on the server, many at a time; None for one whose server failed twice on one input."""

    def run(job: tuple) -> list[Run] | None:
        program, inputs = job
        runs: list[Run] = []
        for text in inputs:
            if runs and runs[-1].status == "timeout":
                return runs + [Run(b"", "timeout")] * (len(inputs) - len(runs))
            found = run_once(url, program, text, limits) or run_once(url, program, text, limits)  # one retry, as here
            if found is None:
                return None
            runs.append(found)
        return runs

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, jobs))
