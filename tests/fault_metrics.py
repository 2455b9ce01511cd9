"""The seeded faults of metrics that processes share."""

from tests.fault_table import Fault

SHEET = "metrics/sheet.py"
NAMES = "metrics/names.py"
WORKERS = "metrics/workers.py"
WATCHED = "metrics/watched.py"
EXPORTER = "metrics/prometheus.py"
CLIENT = "metrics/client.py"
HOOKS = "gunicorn/metrics.py"

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
        SHEET,
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
        "len(first) < MOST_NAMES:\n            self._claim",
        "True:\n            self._claim",
        "a file of names ends",
    ),
    Fault(
        NAMES,
        "        try:\n            self._learn(file)\n",
        "        try:\n",
        "names are bounded in all processes together",
    ),
    Fault(
        NAMES,
        'lines = more[: more.rfind(b"\\n") + 1]',
        "lines = more",
        "a line that is being written is read later",
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
