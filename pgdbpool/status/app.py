"""The status page as a WSGI application."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    InternalServerError,
    NotFound,
    RequestEntityTooLarge,
    Unauthorized,
)
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from pgdbpool import peers
from pgdbpool.status.access import Token, check_is_local, check_same_origin
from pgdbpool.status.answers import as_json, check_method, in_words
from pgdbpool.status.page import HEADERS, Page, file
from pgdbpool.status.service import Service
from pgdbpool.status.shown import Pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from pgdbpool.pool import ConnectionPool

logger = logging.getLogger(__name__)

STATIC: Final = "/static/"
DO: Final = "/do/"
# A token and the few bytes around it; nobody needs more.
LONGEST_FORM: Final = 4096
CHALLENGE: Final = 'Bearer realm="pgdbpool"'


class StatusApp:
    """One page that shows how the pools are doing, live, and the same as JSON.

    Mount it where you like; all its links are relative. Under gunicorn with the hooks
    of `pgdbpool.gunicorn` it shows all workers, whichever answers, if each makes one
    when it loads the application. Several in one process show each their own pools.

    It needs no connection. What servers say of the service's sessions is asked of them
    through a connection that is idle anyway, at most every 2 s while somebody looks.

    Args:
        *pools: those to show; none: all that are open in the process at that moment.
        token: who has it may look, from anywhere. None: only this machine may.
        actions: buttons on the page: their words, and what each does, which must not
            block. Who may look may press them.

    Raises:
        SettingsError: the token is too short, or one of the pools is none.
        ImportError: a library is missing; the message says how to install it.
    """

    def __init__(
        self,
        *pools: ConnectionPool,
        token: str | None = None,
        actions: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        self._token = None if token is None else Token(token)
        # By the number in their address.
        self._actions = {
            str(number): action for number, action in enumerate((actions or {}).items())
        }
        self._page = Page()
        shown = Pools(pools)
        self.service = Service(shown, self._token.mark if self._token else "")
        if shown.may_be_shared:
            peers.answer_with(self.service.answer)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request: the page, its files, its figures, or the form."""
        request = Request(environ)
        request.max_content_length = request.max_form_memory_size = LONGEST_FORM
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = in_words(error)
        response.headers.extend(HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.environ.get("PATH_INFO", "")
        if self._token is None:
            check_is_local(request)
        if path == "":
            return redirect(request.root_path.rpartition("/")[2] + "/", 308)
        if path.startswith(STATIC):  # the form needs them too
            check_method(request)
            return file(path.removeprefix(STATIC)).make_conditional(request)
        if self._token is not None:
            if path == "/login":
                return self._log_in(request, self._token)
            if not self._token.opens(request):
                return self._refuse(request)
        return self._show(request, path)

    def _show(self, request: Request, path: str) -> Response:
        if path.startswith(DO):
            return self._do(request, path.removeprefix(DO))
        if path not in {"/", "/status.json"}:
            raise NotFound(f"there is nothing at {path}")
        check_method(request)
        if path == "/":
            return self._page.render("status.html", actions=self._words())
        since = request.args.get("since", "0")
        if not (since.isascii() and since.isdecimal()) or len(since) > len(
            "1000000000000"
        ):
            raise BadRequest("since: must be whole seconds since 1970")
        return as_json(self.service.look(int(since)))

    def _words(self) -> list[str]:
        return [words for words, _ in self._actions.values()]

    def _do(self, request: Request, number: str) -> Response:
        """Do what a button is for."""
        if number not in self._actions:
            raise NotFound("there is no such button")
        check_method(request, ("POST",))
        check_same_origin(request)
        words, action = self._actions[number]
        try:
            action()
        except Exception as error:
            logger.warning("the button %r has failed", words, exc_info=True)
            name = type(error).__name__
            raise InternalServerError(f"{words!r} has failed: {name}") from None
        return redirect("../", 303)

    def _refuse(self, request: Request) -> Response:
        """Ask people for the token; tell programs that they need it."""
        if request.path == "/" and "text/html" in request.headers.get("Accept", ""):
            return self._ask_for_token("", 401)
        response = in_words(Unauthorized("the token is missing or wrong"))
        response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    def _ask_for_token(self, complaint: str, status: int) -> Response:
        response = self._page.render("login.html", status, complaint=complaint)
        response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    def _log_in(self, request: Request, token: Token) -> Response:
        check_method(request, ("POST",))
        try:
            given = request.form.get("token", "")
        except RequestEntityTooLarge:
            raise RequestEntityTooLarge("no token is that long") from None
        if not token.is_right(given.strip().encode()):
            return self._ask_for_token("That is not the token.", 401)
        # The page itself, relative to this address.
        response = redirect("./", 303)
        token.remember(request, response)
        return response
