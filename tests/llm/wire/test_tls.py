"""Endpoints whose certificates are not valid: one line that says what to do."""

import asyncio
import socketserver
import ssl
import threading
from pathlib import Path

import pytest

from autointerp.errors import AutointerpError, EndpointError
from autointerp.llm.preflight import preflight
from autointerp.llm.wire.client import certificates
from tests.support.echo import TRANSPORTS, Echo, run, say_back
from tests.support.fake_server import FakeServer

FILES = Path("tests/data/tls")
REMEDY = {
    "self-signed": "SSL_CERT_FILE",
    "expired": "the endpoint needs a new certificate",
    "other-host": "use the host name that the certificate was issued for",
}


def serving(name):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(FILES / f"{name}.pem")
    return FakeServer(say_back, tls=tls)


@pytest.fixture
def trusting(monkeypatch):
    """Trust the authority that signed the certificates, as a user would have it trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(FILES / "authority.pem"))
    certificates.cache_clear()
    yield
    certificates.cache_clear()


@pytest.mark.parametrize("name", REMEDY)
def test_a_check_says_what_to_do_about_a_certificate(trusting, name):
    with serving(name) as server, pytest.raises(AutointerpError) as caught:
        asyncio.run(preflight(server.url, "k", "test-model", timeout_s=10))
    said = str(caught.value)
    assert said.startswith(f"endpoint {server.url} cannot be reached: its TLS certificate")
    assert REMEDY[name] in said
    assert "\n" not in said


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", REMEDY)
def test_a_run_stops_at_once_and_nothing_was_sent(trusting, tmp_path, name, transport):
    with serving(name) as server:
        ran = run(
            server, [Echo("a")], tmp_path / "journal.sqlite", transport=transport,
            error=(EndpointError, REMEDY[name]),
        )  # fmt: skip
        assert not server.requests
    assert ran.slept == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_authority_of_the_users_own_is_trusted(trusting, tmp_path, transport):
    with serving("good") as server:
        ran = run(server, [Echo("a")], tmp_path / "journal.sqlite", transport=transport)
    assert ran.results == [("a", "re: a")]


def test_an_unknown_authority_is_not_trusted(tmp_path):
    with serving("good") as server, pytest.raises(AutointerpError, match="SSL_CERT_FILE"):
        asyncio.run(preflight(server.url, "k", "test-model", timeout_s=10))


class PlainHttp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_https_to_a_server_without_it_says_so():
    with socketserver.TCPServer(("127.0.0.1", 0), PlainHttp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}/v1"
        with pytest.raises(AutointerpError, match="does not speak TLS"):
            asyncio.run(preflight(url, "k", "test-model", timeout_s=10))
        server.shutdown()


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_file_of_certificates_that_cannot_be_read_is_named(monkeypatch, tmp_path, content):
    path = tmp_path / "certificates.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    certificates.cache_clear()
    with pytest.raises(AutointerpError, match="SSL_CERT_FILE"):
        asyncio.run(preflight("https://127.0.0.1:1/v1", "k", "m", timeout_s=10))
