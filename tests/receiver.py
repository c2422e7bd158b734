"""A web server that keeps what is sent to it by POST, with or without TLS."""

import http.server
import json
import ssl
import subprocess
import threading


class Receiver(http.server.ThreadingHTTPServer):
    """Listens on a port of its own while it is entered; `url` is where, `received` what came."""

    daemon_threads = True

    def __init__(self, tls=None, status=200, path="/hook"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.received = status, []
        self.arrived = threading.Condition()
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://localhost:{self.server_address[1]}{path}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that goes away, or does not trust us, is not worth a traceback."""

    def wait(self, number=1, seconds=20):
        """What has come, once there are so many."""
        with self.arrived:
            came = self.arrived.wait_for(lambda: len(self.received) >= number, seconds)
            assert came, f"{len(self.received)} messages came, not {number}"
            return list(self.received)


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps a message as a dictionary of its `path`, `headers` and `body`, which is JSON."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = {"path": self.path, "headers": dict(self.headers), "body": json.loads(body)}
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        with self.server.arrived:
            self.server.received.append(message)
            self.server.arrived.notify_all()

    def log_message(self, *message):
        """Not on the tests' output."""


class Authority:
    """A company's own certificate authority, and a server's certificate for localhost that it signed.
    `trust` is what a process needs in its environment to trust the server."""

    def __init__(self, folder):
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        authority, key, request = (folder / name for name in ("ca.pem", "ca.key", "server.csr"))
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl(*new, "-x509", "-subj", "/CN=Test authority", "-keyout", key, "-out", authority)
        openssl(*new, "-subj", "/CN=localhost", "-keyout", self.key, "-out", request)
        extensions = folder / "server.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        sign = ["x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-days", "2"]
        serial = ["-set_serial", "1"]
        openssl(*sign, *serial, "-extfile", extensions, "-out", self.certificate)
        self.trust = {"SSL_CERT_FILE": str(authority)}


def openssl(*arguments):
    """Runs the openssl command."""
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
