"""Local servers and pipes that send a video as a stream."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def http_server(content: bytes, name: str, *, length: bool = True, cut: bool = False) -> Iterator[str]:
    """Serve a file at an address.

    Args:
        content: the file.
        name: its name in the address.
        length: whether the server says how long it is.
        cut: whether the connection is reset after the content.

    Yields:
        the address.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != f"/{name}":
                self.send_error(404)
                return
            self.send_response(200)
            if length:
                self.send_header("Content-Length", str(len(content)))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):
                for start in range(0, len(content), 1316):
                    part = content[start : start + 1316]
                    self.wfile.write(part if length else b"%x\r\n%s\r\n" % (len(part), part))
                if not length and not cut:
                    self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/{name}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def pipe(path: Path, content: bytes, *, hold: float = 0.0) -> Iterator[Path]:
    """Write a file into a named pipe, which stays open for `hold` seconds after it."""
    os.mkfifo(path)

    def write() -> None:
        with suppress(OSError), path.open("wb", buffering=0) as file:
            for start in range(0, len(content), 4096):
                file.write(content[start : start + 4096])
            time.sleep(hold)

    threading.Thread(target=write, daemon=True).start()
    yield path
