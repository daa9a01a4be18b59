"""The server: its port, its address, and its end."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import webbrowser
from collections.abc import Callable

import uvicorn

from .app import Page
from .guard import LOCAL

TRIED = 50  # ports after one that is taken
CONNECTIONS = 100  # at a time; more are answered by 503


def bound(host: str, port: int) -> tuple[socket.socket, int]:
    """A socket on a port, or on the next one that is free; 0 is any.

    Raises
    ------
    OSError
        If there is none, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = port if port == 0 else min(port + TRIED, 65535)
    for number in range(port, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # elsewhere it would share a port that is taken
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(128)  # so that whoever opens the address at once waits, and is not refused
            return listener, listener.getsockname()[1]
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise OSError(error.errno, f"{host} is no address of this machine that can be served from ({error.strerror})") from error
    raise OSError(errno.EADDRINUSE, f"the ports {port}..{last} of {host} are taken, or may not be used; give another --port")


def new_token() -> str:
    """192 random bits, as text."""
    return secrets.token_urlsafe(24)


def address_of(host: str, port: int, token: str) -> str:
    """What to open in a browser."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/?token={token}"


def hosts_of(host: str) -> tuple[str, ...]:
    """Names under which a server at a host may be called."""
    return LOCAL if host in LOCAL else ("*",) if host in ("0.0.0.0", "::") else (*LOCAL, host.lower())


class _Server(uvicorn.Server):
    """Ends the streams and the jobs before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, page: Page):
        super().__init__(config)
        self.page, self.ended = page, 0

    def handle_exit(self, sig, frame) -> None:
        self.page.worker.closing = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets=None) -> None:
        self.ended = self.page.worker.close()
        await super().shutdown(sockets)


def run(page: Page, listener: socket.socket, address: str, *, opened: bool, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; KeyboardInterrupt then says what was ended."""
    config = uvicorn.Config(
        page.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
        limit_concurrency=CONNECTIONS,
    )
    server = _Server(config, page)
    say(address)
    if opened:
        webbrowser.open(address)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
    jobs = {0: "no job was running", 1: "1 job was ended with it"}.get(server.ended, f"{server.ended} jobs were ended with it")
    raise KeyboardInterrupt(f"the server has ended, {jobs}")
