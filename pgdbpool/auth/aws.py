"""IAM, for Amazon RDS and Aurora: a signed URL is the password.

It is signed on this machine; what may have to be fetched first are the
credentials to sign it with.
"""

import calendar
import re
import time
from typing import Any, Final
from urllib.parse import parse_qs

from pgdbpool.auth.provider import Credential
from pgdbpool.auth.sdk import PerProcess, missing
from pgdbpool.errors import CredentialError

# RDS user guide, "Connecting to your DB instance using IAM authentication".
LIFETIME: Final = 900.0
# In the names of the endpoints, outside of China and in it.
REGION: Final = re.compile(
    r"\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.rds\.amazonaws\.com$"
    r"|\.rds\.(?P<chinese>cn-[a-z]+-\d)\.amazonaws\.com\.cn$"
)


class AwsRdsIam:
    """Logs in to an RDS instance or an Aurora cluster with IAM.

    Args:
        host: the endpoint as AWS names it, which a token is for; by default the one
            in the pool's DSN, which then must not be a CNAME that leads there.
        port: of the endpoint.
        user: the role; it has to be a member of ``rds_iam``.
        region: of the endpoint; by default the one in its name, else the session's.
        session: a `boto3.Session`; by default a new one for each process.

    Raises:
        ImportError: boto3 is not installed.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = 5432,
        *,
        user: str,
        region: str | None = None,
        session: Any = None,  # noqa: ANN401 - boto3 has no types
    ) -> None:
        try:
            import boto3  # noqa: PLC0415 - optional
        except ImportError as error:
            raise ImportError(missing("AwsRdsIam", "boto3", "aws")) from error
        self._new_session = boto3.Session
        self._session = session
        self._host = host
        self._port = port
        self._user = user
        self._region = region
        self._client: PerProcess[Any] = PerProcess(self._new_client)

    def __repr__(self) -> str:
        place = "" if self._host is None else f"{self._host!r}, {self._port}, "
        return f"AwsRdsIam({place}user={self._user!r})"

    def at(self, host: str, port: int) -> "AwsRdsIam":
        """Return the provider for one server of a pool: this, if it has a place."""
        if self._host is not None:
            return self
        return AwsRdsIam(
            host, port, user=self._user, region=self._region, session=self._session
        )

    def credential(self) -> Credential:
        """Return a token. Blocks while boto3 looks for credentials, or renews them.

        Raises:
            CredentialError: nobody said which server it is for.
            Exception: botocore's; there are no credentials or no region, mostly.
        """
        if self._host is None:
            raise CredentialError("AwsRdsIam signs for one server: give it the host")
        token = self._sign(self._client.get())
        return Credential(token, self._user, expiry_of(token))

    def _sign(self, client: Any) -> str:  # noqa: ANN401 - boto3 has no types
        token: str = client.generate_db_auth_token(
            DBHostname=self._host, Port=self._port, DBUsername=self._user
        )
        return token

    def _new_client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        session = self._new_session() if self._session is None else self._session
        region = region_of(self._host or "") if self._region is None else self._region
        client = session.client("rds", region_name=region)
        # A client that found no credentials never looks again. This raises then, and
        # the next who asks makes another.
        self._sign(client)
        return client


def region_of(host: str) -> str | None:
    """Return the region in the name of an endpoint."""
    found = REGION.search(host.lower())
    return found and (found["region"] or found["chinese"])


def expiry_of(token: str) -> float:
    """Return when a token expires, seconds since the epoch, as it says itself."""
    said = parse_qs(token.partition("?")[2])
    try:
        signed = time.strptime(said["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
        return calendar.timegm(signed) + float(said["X-Amz-Expires"][0])
    except (KeyError, ValueError):
        return time.time() + LIFETIME
