"""One fetch of a credential: who waits for it, and what came of it."""

import _thread

from pgdbpool.auth.provider import Credential, told
from pgdbpool.errors import CredentialError


class Flight:
    """A fetch under way, for any number of waiters.

    Args:
        begun_at: monotonic seconds.

    Attributes:
        version: the provider's when it began.
        credential: what was fetched.
        error: why nothing was.
    """

    __slots__ = ("_landed", "begun_at", "credential", "error", "version")

    def __init__(self, begun_at: float) -> None:
        self.begun_at = begun_at
        # Held while the fetch is under way.
        self._landed = _thread.allocate_lock()
        self._landed.acquire()
        self.version: object = None
        self.credential: Credential | None = None
        self.error: CredentialError | None = None

    def bring(self, credential: Credential) -> None:
        """Take down what was fetched; nobody is told yet."""
        self.credential = credential

    def fail(self, error: BaseException) -> None:
        """Take down why nothing was; nobody is told yet."""
        if isinstance(error, CredentialError):
            self.error = error
            return
        self.error = CredentialError(f"the password provider failed: {told(error)}")
        self.error.__cause__ = error

    def land(self) -> None:
        """Let all go on who wait."""
        self._landed.release()

    def wait(self, now: float, limit: float | None) -> Credential:
        """Return what was fetched. Blocks.

        Args:
            now: monotonic seconds.
            limit: how long the fetch may take in all, seconds; None: for ever.

        Raises:
            CredentialError: it failed, or takes too long.
        """
        left = -1.0 if limit is None else max(self.begun_at + limit - now, 0.0)
        if not self._landed.acquire(timeout=left):
            silent = now + left - self.begun_at
            raise CredentialError(
                f"the password provider has not answered for {silent:.1f} s"
            )
        self._landed.release()
        if self.credential is None:
            # Another for each who waits: a traceback grows on what is raised.
            cause = None if self.error is None else self.error.__cause__
            raise CredentialError(str(self.error)) from cause
        return self.credential
