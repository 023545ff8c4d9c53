"""The program inside a kernel: runs code, terminals and services there, and moves files, for the agent.

Needs a Python of 3.8 or newer and its standard library, nothing else; the folder is mounted read-only into a
container (or lies beside a native process) and started as the kernel's first process, in place of the image's
own command:

    python3 -I /opt/refold/runner --socket /run/refold/runner.sock [--home …] [-- main command of a batch session]

`--help` names the arguments, `program.py` tells the order of events. What the agent hears from here is said by
something the session's user can put words into the mouth of: it is data, and never to be trusted.


The protocol, version 1
=======================

Over a Unix stream socket that only the session's user may open. A frame is a JSON object and raw bytes behind
it (`framing.py`). The runner speaks first:

    {"protocol": 1, "python": "3.11.7", "pid": 1, "home": "/home/work", "modes": ["batch", "query"]}

Then each request gets one answer, in whatever order they are done:

    {"id": 1, "do": "execute", "with": {"mode": "query", "code": "1 + 1"}}
    {"id": 1, "ok": {…}}      or      {"id": 1, "failed": {"code": "bad-request", "why": "mode: must be …"}}

`id` is a whole number or a string, the client's own. Whatever takes long or has no end is asked for again and
again (`wait_ms`: how long an answer may take, at most 60,000), so the one who asks sets the pace, and nothing
is lost with a connection: runs, terminals and services live on, and any connection may go on with them. Unknown
fields are ignored; a field that is null counts as absent. A new version keeps what this one says.

Code
----
`execute`    mode  `query`, `batch`: starts a run; `continue` (or `continued`): asks on; `input`: types a line
             run_id  of the run; a new one by default. The same request again is no new run
             code    the source (query), the line (input)
             options clean, build, exec (batch), timeout_seconds (from the run's turn on, waiting for input included)
             wait_ms (2000), gather_ms (100): answer so long after the first output
             seen    number of the last answer that arrived; if a later one was lost, it is given again
    → runId, number, status, exitCode, console, options, files
             status  `continued`: ask on; `waiting-input`: options.is_password says how to read the line;
                     `clean-finished`, `build-finished`: a step of a batch is over, ask on; `finished`;
                     `exec-timeout`: interrupted, and killed if that did not help
             exitCode  of a step that is over, else null. Query mode: 0, whatever the code raised; not 0 if
                     the interpreter itself died. Below 0: the platform is at fault
             console what was printed and shown since the last answer, in order (`console.py` for its limits):
                     ["stdout", text], ["stderr", text], ["html", text], ["media", [type, data]],
                     ["log", [level, time, name, message]]; data of a text or XML type is plain, else a data URI
             files   that are new or changed in ~/.output when the run is over: name (its path there), bytes
`interrupt`  run_id (the one that is on by default): SIGINT; one that waits for its turn is cancelled
`complete`   code (up to the cursor) → result: names it may go on as. Empty while something runs

Runs of both modes have their turn one after the other. A run's output nobody asks for is kept up to the
console's limits; the last 64 runs that are over can still be asked for.

Terminals
---------
`terminal-open`     terminal (a name; one of that name is used again, with another shell if its own has ended),
                    rows, cols (24, 80; one that is there keeps its size), command, environ → terminal, next
`terminal-read`     terminal, after (an offset), bytes_max, wait_ms → at, next, exitCode; body: the bytes from `at` on
`terminal-write`    terminal; body: what was typed
`terminal-resize`   terminal, rows, cols
`terminal-restart`  terminal: the shell is ended, another starts
`terminal-close`    terminal

`ping`  somebody is there: the kernel is in use

Services
--------
`service-start`  service, ports, arguments, environ, wait_ms (30,000, at most 600,000)
    → service, ports, running, starts, exitCode. Answers once the first port is open
`service-stop`   service
                 `sshd` and `ttyd` are the runner's own (`sshd.py`, `web_terminal.py`), where it was told to have them
`services`       names → services: those that were started; definitions: of these names, by name, as far as they
                 have one: url_template, allowed_arguments, allowed_envs

Files
-----
Paths are from home or absolute, and never lead out of it.

`files-list`      path (home) → folder, entries (name, kind, bytes, mode, mtime, ctime, atime), left_out
`files-upload`    path, mode (0o644); body: the content → path, bytes
`download-open`   paths, single → download, bytes. A tar archive, or the one file; bytes is null if not known
`download-read`   download, bytes_max → last; body: the next bytes. Belongs to its connection
`download-close`  download

Failures
--------
The wire      unreadable, broken (and the connection ends), too-many-requests (256 of a connection at once)
Requests      bad-request, unknown-request, fault (of the runner itself)
Code          unsupported-mode, unknown-run, run-exists, too-many-runs, not-waiting
Terminals     unknown-terminal, too-many-terminals, terminal-ended, terminal-busy (typed and not yet read)
Services      unknown-service, bad-definition, prestart-failed, service-died, service-silent (not within wait_ms),
              forbidden-argument, forbidden-variable
Programs      cannot-run
Files         outside-home, no-such-path, not-a-folder, is-a-folder, not-a-file, forbidden, no-space, too-large,
              too-many-links, name-too-long, bad-path, changed, failed, unknown-download, too-many-downloads


Other kernels
=============

Batch mode runs anything. Query mode is Python's, unless a label of the image names what runs the code instead:

    refold.query.command          a program and its arguments, quoted as for a shell (`--query-command`). It speaks
                                  the lines of `interpreter.py`: some forty lines of code in any language
    refold.query.jupyter-kernel   name of a kernel of Jupyter that the image has (`--jupyter-kernel`), if the Python
                                  at `ai.backend.runtime-path` has `jupyter_client` (`jupyter.py`)

`ai.backend.features` must contain `query`, if it is there. Execution by another way altogether is an `Executor`
(`runs.py`), which carries out one run at a time, tells the run what was printed, which step ended and what is
asked, and can interrupt and kill.
"""
