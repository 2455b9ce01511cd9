"""The seeded faults of metrics, and of what they read."""

from tests.fault_table import Fault

SHEET = "metrics/sheet.py"
NAMES = "metrics/names.py"
WORKERS = "metrics/workers.py"
WATCHED = "metrics/watched.py"
EXPORTER = "metrics/prometheus.py"
CLIENT = "metrics/client.py"
HOOKS = "gunicorn/metrics.py"
FIGURES = "metrics/figures.py"
OTEL = "metrics/opentelemetry.py"
SNAPSHOT = "snapshot.py"
LOOKING = "looking.py"

METRICS = [
    Fault(
        SHEET, "if falls or not self._bases:", "if not self._bases:", "a counter rises"
    ),
    Fault(
        SHEET,
        "self._bases or [value.get() for value in self._values]",
        "self._bases or [0.0 for value in self._values]",
        "a counter goes on from what an ended process has left",
    ),
    Fault(
        SHEET,
        "self._written.pop(key, None)",
        "pass",
        "a pool that has counted as many as the one before it is counted",
    ),
    Fault(
        SHEET,
        "self._sources[pool] = source\n",
        "continue\n",
        "what another pool of the name counts is added",
    ),
    Fault(
        SHEET,
        'if metric.kind == "gauge":\n                now',
        "if False:\n                now",
        "a gauge that is there no more tells so",
    ),
    Fault(SHEET, '"livemax": -1.0', '"livemax": 0.0', "an unknown lag is below zero"),
    Fault(
        SHEET, "if kind in BOUNDED:", "if False:", "endpoints and routes are bounded"
    ),
    Fault(
        FIGURES,
        'max(one, other) if metric.across == "livemax" else one + other',
        "one + other",
        "round trips are not added up",
    ),
    Fault(
        SHEET,
        "            series.forget()\n",
        "            pass\n",
        "a forked child counts from its own file",
    ),
    Fault(
        NAMES,
        "name not in first and len(first) + len(lost) < MOST_NAMES",
        "name not in first",
        "a file of names ends",
    ),
    Fault(
        NAMES,
        "len(first) + len(lost) < MOST_NAMES",
        "len(first) < MOST_NAMES",
        "names that cannot be written are not tried without end",
    ),
    Fault(
        NAMES,
        "            there = self._learn(file)\n",
        "            there: dict[Line, None] = {}\n",
        "what is known is not written again",
    ),
    Fault(
        NAMES,
        'lines = more[: more.rfind(b"\\n") + 1]',
        "lines = more",
        "a line that is being written is read later",
    ),
    Fault(
        NAMES,
        "mine = self._begin_anew() if self._is_another(file) else []",
        "mine: list[Line] = []",
        "a file that is lost is read anew",
    ),
    Fault(
        NAMES,
        "return [(*of, name) for of, names in self._first.items() for name in names]",
        "return []",
        "a file that is lost is written anew",
    ),
    Fault(
        NAMES,
        "except (TypeError, ValueError):\n        return None",
        "except ZeroDivisionError:\n        return None",
        "a torn line is passed over",
    ),
    Fault(
        NAMES,
        "if size and os.pread(",
        "if not size and os.pread(",
        "a line that was torn off costs no other",
    ),
    Fault(
        NAMES,
        "if os.write(file, text) < len(text):",
        "if not os.write(file, text):",
        "it is told that a name was cut off",
    ),
    Fault(
        NAMES,
        "            except OSError as error:\n",
        "            except ZeroDivisionError as error:\n",
        "a name that cannot be written stops no publishing",
    ),
    Fault(
        NAMES,
        "if name == OTHER or name in lost:",
        "if name == OTHER:",
        "what was told with the others stays there",
    ),
    Fault(
        LOOKING,
        "        return outline.filled(sight)",
        "            return outline.filled(sight)",
        "words are made without the lock",
    ),
    Fault(
        LOOKING,
        "        return sight.holders()",
        "            return sight.holders()",
        "words are made without the lock",
    ),
    Fault(
        SNAPSHOT,
        "backend_pid=seen.backend_pid,\n            holder=",
        "backend_pid=session_of(seen)[0],\n            holder=",
        "a session is asked while the pool cannot close it",
    ),
    Fault(
        FIGURES,
        "pool.outline()",
        "pool.snapshot()",
        "metrics look at no connection",
    ),
    Fault(
        FIGURES,
        "return [(*key, value) for key, value in by_series(found).items()]",
        "return found",
        "two endpoints of one name are one series",
        needs_server=True,
    ),
    Fault(
        OTEL,
        "yield from traceback.format_exception(kind, one, frames, chain=False)",
        "yield from traceback.format_exception(kind, one, frames)",
        "a span tells nothing of what the application was handling",
        needs_server=True,
    ),
    Fault(
        OTEL,
        "while (cause := chain[-1].__cause__) is not None",
        "while (cause := chain[-1].__cause__) is error",
        "a span tells why a server cannot be reached",
        needs_server=True,
    ),
    Fault(
        WORKERS,
        "self._turn.acquire(\n            blocking=False\n        ):",
        "self._turn.acquire():",
        "a finalizer does not wait for its own thread",
    ),
    Fault(
        WORKERS,
        "(_is_collecting or _gate.locked())",
        "_is_collecting",
        "a finalizer does not write while another publisher does",
    ),
    Fault(
        WORKERS,
        "(_is_collecting or _gate.locked())",
        "_gate.locked()",
        "a finalizer does not write in the middle of anything",
    ),
    Fault(
        WORKERS,
        "        if self._is_over:\n            return\n        _, has",
        "        _, has",
        "what rests does not begin again",
    ),
    Fault(
        WORKERS,
        'figures = [figure for figure in figures if figure[0].kind != "gauge"]',
        "pass",
        "what rests takes its state back",
    ),
    Fault(
        WORKERS,
        "            if not self._is_over:\n                self._write()",
        "            if True:\n                self._write()",
        "a tick that waited writes nothing any more",
    ),
    Fault(
        WORKERS,
        "self.is_listening = not self._is_over",
        "self.is_listening = True",
        "what rests listens no more",
    ),
    Fault(
        WORKERS,
        "        except RuntimeError:  # not even one for the timer\n"
        "            self._pause()",
        "        except RuntimeError:  # not even one for the timer\n            pass",
        "it begins again when there was no thread to be had",
    ),
    Fault(
        WORKERS,
        "            if not self._has_failed:\n",
        "            if True:\n",
        "what fails for long is logged once",
    ),
    Fault(
        WORKERS,
        "                self._has_warned = True\n",
        "                pass\n",
        "names that cannot be shared are warned of once",
    ),
    Fault(
        WORKERS,
        "self._is_over = _is_resting",
        "self._is_over = False",
        "a process that rests publishes nothing of what is made later",
    ),
    Fault(
        EXPORTER,
        "all(pool.settings.threaded",
        "any(pool.settings.threaded",
        "one pool without threads forbids them to all",
    ),
    Fault(
        WATCHED,
        "return [(pool, observer) for pool, observer in found if pool is not None]",
        "with _adding:\n"
        "            return [(p, one) for p, one in found if p is not None]",
        "pools are looked up without a lock",
    ),
    Fault(
        "metrics/tally.py",
        "self._lock = threading.RLock()",
        "self._lock = threading.Lock()",
        "a finalizer is counted where the tally is read",
    ),
    Fault(
        WORKERS,
        "        with _gate:\n            self._sheet",
        "        if True:\n            self._sheet",
        "a fork waits for what is being written",
        needs_server=True,
    ),
    Fault(
        WORKERS,
        "PERIOD: Final = 0.5",
        "PERIOD: Final = 4.0",
        "figures are half a second old at most",
        needs_server=True,
    ),
    Fault(
        WORKERS,
        "_finalizer = util.Finalize(None, rest_all, exitpriority=-100)",
        "pass",
        "a child of multiprocessing takes its gauges back",
        needs_server=True,
    ),
    Fault(
        WORKERS,
        "has_begun = self._is_running or self._sheet.has_begun",
        "has_begun = self._sheet.has_begun",
        "what a short process has counted stays",
        needs_server=True,
    ),
    Fault(
        WORKERS,
        "        if self._sheet.has_begun:\n            self.publish()\n\n    def rest",
        "        pass\n\n    def rest",
        "what a pool has counted last is not lost with it",
        needs_server=True,
    ),
    Fault(
        EXPORTER,
        "if other is not self and other._namespace",
        "if False and other._namespace",
        "a pool is in the files once",
        needs_server=True,
    ),
    Fault(
        EXPORTER,
        "is_told = is_told_by(registered)",
        "is_told = False",
        "a registry tells each series once",
        needs_server=True,
    ),
    Fault(
        CLIENT,
        'new.open("xb")',
        'open(os.open(new, 193, 0o600), "wb")',
        "files are made by the umask",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "if given and not _OURS.fullmatch(Path(given).name):",
        "if not _OURS.fullmatch(Path(given).name):",
        "an empty variable is not the working directory",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "if given and not _OURS.fullmatch(Path(given).name):",
        "if given:",
        "an upgrade has a directory of its own",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "if _FILE.fullmatch(file.name) or file.name == NAMES:",
        'if file.suffix == ".db":',
        "only files of prometheus_client are removed",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "    rest_all()\n    if _is_ours:",
        "    if _is_ours:",
        "a preloaded arbiter is not counted",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "    begin_all()\n",
        "    pass\n",
        "a worker is counted from its start",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        'elif "GUNICORN_PID" not in os.environ:',
        "else:",
        "an upgrade goes on with the figures",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "    if worker.pid != os.getpid():\n",
        "    if False:\n",
        "a worker that has vanished is counted no more",
        needs_server=True,
    ),
    Fault(
        HOOKS,
        "if _is_new and os.geteuid() == 0:",
        "if False:",
        "a directory that is made is the workers'",
        needs_server=True,
    ),
]
