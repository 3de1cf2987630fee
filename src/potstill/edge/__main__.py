"""``python -m edge FILE [--http PORT]``: run a policy where only this folder and numpy are.

Questions as JSON lines on stdin, decisions as JSON lines on stdout; or ``POST /act``. Exit code 2 for a file that
cannot be used or a question that could not be answered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from .act import answers
from .policy import open_policy
from .server import ADDRESS, server


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edge", description="Run a trained policy with numpy only.")
    parser.add_argument("file", help="a policy, as potstill writes it")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve POST /act on 127.0.0.1; 0 takes a free port")
    given = parser.parse_args(arguments)
    try:
        policy = open_policy(given.file)
        listening = None if given.http is None else server(policy, given.http)
    except (OSError, OverflowError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if listening is not None:
        print(f"POST http://{ADDRESS}:{listening.server_address[1]}/act", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt), listening:
            listening.serve_forever()
        return 0
    code = 0
    for found in answers(policy, sys.stdin.buffer):
        print(json.dumps(found), flush=True)
        code = 2 if "error" in found else code
    return code


if __name__ == "__main__":
    sys.exit(main())
