"""A llama.cpp server in a process of its own, as users start one: ``python llama_process.py MODEL.gguf TEMPLATE KEY``.

It writes its address, serves until its standard input ends, always takes the likeliest token, and counts tokens in its
own ``/metrics``: what a record says is held against that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

MAX_TOKENS = 80
"""Of one answer: a model this small does not always find an end."""


def main(model: str, template: str, key: str) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.chat_template = Path(template).read_text()
    params.use_jinja = True
    params.n_ctx = 8192
    params.n_parallel = 1
    params.n_predict = MAX_TOKENS
    params.sampling.temp = 0.0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [key]
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
