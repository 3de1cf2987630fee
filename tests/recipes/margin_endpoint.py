"""An OpenAI-compatible address on this machine that answers as DSPy's formats ask: a divider and a writer.

It tells one from the other by the fields that the prompt asks for, and reads nothing but the prompt.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from margin_models import LESSON

_NUMBERS = re.compile(r"income of (\d+) and a revenue of (\d+)")
_ANSWER = re.compile(r"^\d+\.\d\d$", re.MULTILINE)


class Endpoint:
    """``with Endpoint() as endpoint: endpoint.url``; ``asked`` counts requests."""

    def __init__(self) -> None:
        self.asked = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                endpoint.asked += 1
                text = said("\n".join(str(message["content"]) for message in body["messages"]), body["messages"])
                payload = json.dumps(completion(body["model"], text)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: Any) -> None:
                """Tests print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def said(prompt: str, messages: list[dict[str, Any]]) -> str:
    asked = re.findall(r"`\[\[ ## (\w+) ## \]\]`", str(messages[-1]["content"]))
    field = asked[0] if asked else "answer"
    if field != "answer":
        text = f"Answer with a number. {LESSON}" if "instruction" in field else "Margins of firms, in percent."
        return f"[[ ## {field} ## ]]\n{text}\n\n[[ ## completed ## ]]"
    income, revenue = map(int, _NUMBERS.findall(str(messages[-1]["content"]))[-1])
    shown = [float(number) for number in _ANSWER.findall("\n".join(str(m["content"]) for m in messages[:-1]))]
    taught = LESSON in str(messages[0]["content"]) or any(number > 1 for number in shown)
    return f"[[ ## answer ## ]]\n{(100 if taught else 1) * income / revenue:.2f}\n\n[[ ## completed ## ]]"


def completion(model: str, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": choices, "usage": usage}
