"""A provider that answers from a script, and a cache whose time the test passes."""

from collections import deque
from collections.abc import Callable

from pgdbpool.auth.cache import RENEWED_AFTER, Credentials
from pgdbpool.auth.provider import Credential, as_provider
from tests.unit.scripted_timer import Clock, Timer

Answer = Credential | str | Exception


class ScriptedProvider:
    """Answers from a script; at its end, with the last answer again and again.

    Attributes:
        asked: how often it was.
        now: the version of what it has.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = deque(answers)
        self.asked = 0
        self.now: object = 0

    def then(self, *answers: Answer) -> None:
        """Answer this from now on."""
        self._answers = deque(answers)

    def credential(self) -> Credential | str:
        """Return or raise what comes next."""
        self.asked += 1
        answer = self._answers[0]
        if len(self._answers) > 1:
            self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def version(self) -> object:
        """Return the version; raise it, if it is an error."""
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


class Threads:
    """Runs what is to run in a thread at once, or when the test says so.

    Attributes:
        are_late: keep what is started, until `run`.
        error: raised in the place of a start.
    """

    def __init__(self) -> None:
        self.are_late = False
        self.error: BaseException | None = None
        self._started: deque[Callable[[], None]] = deque()

    def __call__(self, run: Callable[[], None]) -> None:
        """Start a thread."""
        if self.error is not None:
            raise self.error
        if self.are_late:
            self._started.append(run)
        else:
            run()

    def __len__(self) -> int:
        return len(self._started)

    def run(self) -> None:
        """Run what was started first and did not run yet."""
        self._started.popleft()()


class ScriptedCredentials(Credentials):
    """A cache over a scripted provider; its timer is the test.

    Attributes:
        provider: what it asks.
        wall: the clock by which credentials expire.
        timer: the clock that is monotonic, and what rings.
        threads: those of its fetches.
        changes: how often it told of another login.
    """

    def __init__(self, *answers: Answer, limit: float | None = 30.0) -> None:
        self.provider = ScriptedProvider(*answers)
        self.wall = Clock()
        self.wall.now = 1_000_000.0
        self.timer = Timer()
        self.threads = Threads()
        self.changes = 0
        super().__init__(
            as_provider(self.provider, clock=self.wall),
            name="orders",
            clock=self.wall,
            timer=self.timer,
            limit=limit,
            start=self.threads,
        )
        self.on_change(self._count)

    def _count(self) -> None:
        self.changes += 1

    def token(self, secret: str, life: float = 1000.0) -> Credential:
        """Return a credential that lives so long from now on."""
        return Credential(secret, "app", self.wall.now + life)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, by both clocks, and fire what is due then."""
        self.wall.now += seconds
        self.timer.clock.now += seconds
        self.timer.fire_due()

    @property
    def rings_in(self) -> float:
        """In how many seconds the timer would wake up."""
        return self.timer.fire_due()


def with_two_tokens() -> ScriptedCredentials:
    """Return a cache that was never asked, over a provider whose tokens live long."""
    cache = ScriptedCredentials()
    cache.provider.then(cache.token("first"), cache.token("second", life=5000.0))
    return cache


def renewal(life: float) -> tuple[float, float]:
    """Return the earliest and the latest time of it, seconds after the fetch."""
    early, late = RENEWED_AFTER
    return life * early, life * late
