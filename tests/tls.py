"""TLS for `tests.proxy.Proxy`, which ends it: the embedded server has none."""

import ssl

import trustme


def server_context() -> ssl.SSLContext:
    """Return a context with a new certificate for `localhost` and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context
