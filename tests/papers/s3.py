"""An S3 on a loopback port, for the tests to store papers in."""

import http.client
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running_s3() -> Iterator[str]:
    """Its address; the bucket `papers` is there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        line = http.client.HTTPConnection(host, port)
        line.request("PUT", "/papers")
        assert line.getresponse().read() is not None
        line.close()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
