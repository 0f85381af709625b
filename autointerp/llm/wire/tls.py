"""Explains failed TLS connections, and what a user can do about them."""

import ssl

# By the codes of OpenSSL's X509_V_ERR_…
_REMEDIES = {
    9: "it is not valid yet; check this machine's clock",
    10: "the endpoint needs a new certificate, unless this machine's clock is wrong",
    62: "use the host name that the certificate was issued for",
    64: "use the host name that the certificate was issued for",
}
_UNKNOWN_ISSUER = (
    "if you trust the endpoint, set SSL_CERT_FILE to a file that contains its issuer's certificate"
)
# What OpenSSL makes of an answer in plain HTTP.
_PLAIN = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def tls_trouble(error: BaseException | None) -> str | None:
    """In one line why TLS failed, where it failed in a way that another try will not mend."""
    while error is not None:
        # aiohttp has errors that are of this kind too, but empty: they lead to the real one.
        if isinstance(error, ssl.SSLError) and type(error).__module__ == "ssl":
            if isinstance(error, ssl.SSLCertVerificationError):
                message = error.verify_message.rstrip(".")
                remedy = _REMEDIES.get(error.verify_code, _UNKNOWN_ISSUER)
                return f"its TLS certificate is not valid: {message}; {remedy}"
            if error.reason in _PLAIN:
                return "it does not speak TLS; if that is intended, use http:// in the base URL"
        error = error.__cause__ or error.__context__
    return None
