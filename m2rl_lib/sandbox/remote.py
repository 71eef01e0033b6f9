"""Programs on a remote SandboxFusion server (bytedance/SandboxFusion, `POST /run_code`): same answers as the local
sandbox, for clusters."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 64  # programs; the server's cores do the work, the published code sends up to 256


def run_once(url: str, program: str, text: str, limits: dict) -> tuple[bytes, str] | None:
    """(stdout, status) of one program on one input, or None where the server failed."""
    body = {
        "code": program,
        "language": "python",
        "stdin": text,
        "run_timeout": limits["timeout"],
        "memory_limit_MB": math.ceil(limits["memory"] / (1 << 20)),
    }
    request = urllib.request.Request(
        url.rstrip("/") + "/run_code", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=limits["timeout"] + 30) as response:
            answer = json.load(response)
        result = answer.get("run_result") or {}
        state, written = result.get("status"), (result.get("stdout") or "").encode("utf-8", "replace")
        if answer["status"] == "SandboxError" or state not in ("Finished", "TimeLimitExceeded"):
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, http.client.HTTPException, urllib.error.URLError):
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
            found = run_once(url, program, text, limits) or run_once(url, program, text, limits)
            if found is None:
                return None
            runs.append(found)
        return runs

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, jobs))
