"""Programs on a remote SandboxFusion server (bytedance/SandboxFusion, `POST /run_code`), for clusters: the local answers."""

import math
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 64  # programs; the server's cores do the work, the published code sends up to 256


def run_once(url: str, program: str, text: str, limits: dict) -> tuple[bytes, str] | None:
    """(stdout, status) of one program on one input, or None where the server failed."""
    import httpx  # slow to import, and not needed where programs run here

    body = {
        "code": program,
        "language": "python",
        "stdin": text,
        "run_timeout": limits["timeout"],
        "memory_limit_MB": math.ceil(limits["memory"] / (1 << 20)),
    }
    try:
        answer = httpx.post(url.rstrip("/") + "/run_code", json=body, timeout=limits["timeout"] + 30).raise_for_status().json()
        result = answer.get("run_result") or {}
        state, written = result.get("status"), (result.get("stdout") or "").encode("utf-8", "replace")
        if answer["status"] == "SandboxError" or state not in ("Finished", "TimeLimitExceeded"):
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, httpx.HTTPError, httpx.InvalidURL):
        return None
    status = "timeout" if state == "TimeLimitExceeded" else "ok" if result.get("return_code") == 0 else "error"
    return written[: limits["output"]], "output" if len(written) > limits["output"] else status


def run_jobs(url: str, jobs: list[tuple], limits: dict) -> list[list[tuple[bytes, str]] | None]:
    """Each job (program, inputs) on the server, many at a time; None for one whose server failed twice on one input."""

    def run(job: tuple) -> list[tuple[bytes, str]] | None:
        program, inputs = job
        runs: list[tuple[bytes, str]] = []
        for text in inputs:
            if runs and runs[-1][1] == "timeout":
                runs.append((b"", "timeout"))
                continue
            found = run_once(url, program, text, limits) or run_once(url, program, text, limits)  # one retry, as here
            if found is None:
                return None
            runs.append(found)
        return runs

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, jobs))
