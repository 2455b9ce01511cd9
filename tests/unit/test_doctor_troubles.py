"""What an error means, by the words of libpq and of servers of any language."""

import socket

import psycopg2
import pytest
from psycopg2 import errors as sqlstate

from pgdbpool.demo.postgres import HOST, free_port
from pgdbpool.doctor.facts import Trouble
from pgdbpool.doctor.troubles import of_connect, of_question
from pgdbpool.errors import CredentialError

AT = 'connection to server at "db1" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("Connection refused\n\tIs the server running on that host", "unreachable"),
        ("server closed the connection unexpectedly", "unreachable"),
        ("No route to host", "unreachable"),
        ('FATAL:  password authentication failed for user "app"', "login"),
        ('FATAL:  no pg_hba.conf entry for host "::1", SSL off', "login"),
        ("FATAL:  sorry, too many clients already", "full"),
        ('FATAL:  database "shop" does not exist', "database"),
        ("FATAL:  the database system is starting up", "starting"),
        ("FATAL:  the database system is shutting down", "starting"),
        ("FATAL:  the database system is in recovery mode", "starting"),
        ("FATAL:  the database system is not yet accepting connections", "starting"),
        (
            (
                "FATAL:  the database system is not accepting connections\n"
                "DETAIL:  Hot standby mode is disabled."
            ),
            "starting",
        ),
        ("server does not support SSL, but SSL was required", "tls"),
        ("SSL error: certificate verify failed", "tls"),
        ('could not read root certificate file "x": no certificate', "tls"),
        ('root certificate file "x" does not exist\nEither provide the file', "tls"),
        ('server certificate for "a" does not match host name "b"', "tls"),
        ("channel binding required, but SSL not in use", "tls"),
        ("FATAL:  connection requires a valid client certificate", "tls"),
        ("received invalid response to SSL negotiation: H", "strange"),
        ("expected authentication request from server, but received H", "strange"),
        ("FATAL:  unsupported startup parameter: options", "parameter"),
        ('FATAL:  unrecognized configuration parameter "foo"', "parameter"),
        ('FATAL:  invalid value for parameter "client_encoding": "x"', "parameter"),
        ('invalid integer value "x" for connection option "keepalives"', "parameter"),
        ('authentication method requirement "md5" failed: it is SASL', "parameter"),
        ('FATAL:  Passwort-Authentifizierung für Benutzer "app"', "refused"),
        ("ВАЖНО:  пользователь не прошёл проверку", "refused"),
        ("致命错误:  用户 Password 认证失败", "refused"),
        ("FATAL:  no such user", "refused"),
    ],
)
def test_a_connect_that_fails_is_told_by_its_words(said: str, trouble: str) -> None:
    """Whether nobody is there, or somebody refuses, and why."""
    assert of_connect(psycopg2.OperationalError(f"{AT}{said}\n")) is Trouble(trouble)


@pytest.mark.parametrize(
    "said",
    [
        'invalid sslmode value: "foo"',
        'invalid port number: "99999"',
        'invalid "ssl_min_protocol_version" value: "x"',
        'could not parse network address "foo": Name or service not known',
        'definition of service "nope" not found',
    ],
)
def test_what_libpq_itself_refuses_is_a_parameter(said: str) -> None:
    """No server was asked."""
    assert of_connect(psycopg2.OperationalError(f"{said}\n")) is Trouble.PARAMETER


def timed_out(port: int, host: str = f'"{HOST}"') -> psycopg2.OperationalError:
    """Return what libpq says of an address where it waited in vain."""
    return psycopg2.OperationalError(
        f"connection to server at {host}, port {port} failed: timeout expired\n"
    )


def test_who_takes_connections_and_says_nothing_is_silent() -> None:
    """As a frozen server, for which its kernel answers."""
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        assert of_connect(timed_out(port)) is Trouble.SILENT
        assert of_connect(timed_out(port, f'"db1" ({HOST})')) is Trouble.SILENT
    assert of_connect(timed_out(free_port())) is Trouble.UNREACHABLE
    by_socket = 'connection to server on socket "/s" failed: timeout expired'
    assert of_connect(psycopg2.OperationalError(by_socket)) is Trouble.SILENT


def test_without_a_password_nobody_was_asked() -> None:
    """Whatever the provider says."""
    error = CredentialError("the database system is starting up")
    assert of_connect(error) is Trouble.CREDENTIALS


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (psycopg2.OperationalError("server closed the connection"), Trouble.SILENT),
        (sqlstate.lookup("57P01")("terminating connection"), Trouble.SILENT),
        (psycopg2.ProgrammingError("syntax error"), Trouble.STRANGE),
        (psycopg2.OperationalError("password authentication failed"), Trouble.LOGIN),
        (ValueError("what is this"), Trouble.STRANGE),
    ],
)
def test_a_question_that_fails_is_told_by_its_kind(
    error: Exception, trouble: Trouble
) -> None:
    """Whether the session was lost, or its answers make no sense."""
    assert of_question(error) is trouble


@pytest.mark.parametrize(
    ("code", "trouble"),
    [
        ("28P01", Trouble.LOGIN),
        ("3D000", Trouble.DATABASE),
        ("53300", Trouble.FULL),
        ("57P03", Trouble.STARTING),
        ("08P01", Trouble.STRANGE),
        ("57P01", Trouble.SILENT),
        ("42601", Trouble.STRANGE),
    ],
)
def test_what_a_pooler_passes_on_is_told_by_its_sqlstate(
    code: str, trouble: Trouble
) -> None:
    """It lets in first, and asks the server with the first question."""

    class Passed(psycopg2.OperationalError):
        pgcode = code

    assert of_question(Passed("as the server says")) is trouble
