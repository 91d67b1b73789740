"""Is every loaded model able to answer? Runs each on one row of zeros; ends with 1 and the reason where one cannot.

A server without models is able: they are loaded through it. Knows the HTTP face of KServe v2 and nothing of Winnow.
"""

import json
import sys
import time
import urllib.request

HOST = "127.0.0.1:8000"


def ask(path, body, seconds):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}{path}", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=max(seconds, 0.1)) as answer:
        return json.loads(answer.read() or b"{}")


def zeros(entry):
    shape = [max(size, 1) for size in entry["shape"]]
    count = 1
    for size in shape:
        count *= size
    empty = False if entry["datatype"] == "BOOL" else "" if entry["datatype"] == "BYTES" else 0
    return {"name": entry["name"], "datatype": entry["datatype"], "shape": shape, "data": [empty] * count}


def main(host, seconds):
    global HOST
    HOST = host
    until = time.monotonic() + seconds
    loaded = ask("/v2/repository/index", {"ready": True}, seconds)
    for name in sorted({model["name"] for model in loaded}):
        try:
            about = ask(f"/v2/models/{name}", None, until - time.monotonic())
            inputs = [zeros(entry) for entry in about["inputs"]]
            ask(f"/v2/models/{name}/infer", {"inputs": inputs}, until - time.monotonic())
        except urllib.error.HTTPError as refused:
            if refused.code not in (400, 404):  # unloaded meanwhile; or a graph that takes no zeros, which did run
                raise SystemExit(f"{name}: {refused.code} {refused.read()[:200].decode(errors='replace')}") from None
        except OSError as late:
            raise SystemExit(f"{name}: {late}") from None


if __name__ == "__main__":
    main(sys.argv[2] if len(sys.argv) > 2 else HOST, float(sys.argv[1]))
