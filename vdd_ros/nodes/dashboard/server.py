"""The web server of the dashboard: one page, one stream of events, and commands that need a token."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.nodes.dashboard.access import is_own_name, permits
from vdd_ros.nodes.dashboard.watch import Watch

PAGE = Path(__file__).parent / 'page'
_HEARTBEAT = 1.0
"""Maximum time between two events of a stream [s]."""
_STREAMS = 32
"""Maximum number of open pages."""
_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
}

Answer = tuple[bool, str]
"""Success, and a line of text."""


@dataclass(frozen=True)
class Command:
    """A button of the page: its label, and the request that it sends."""

    label: str
    group: str
    """motion: stops or moves the arm; setup: anything else."""
    call: Callable[[], Awaitable[Answer]]
    """Called when the button is pressed: sends the request to the node and waits for its answer."""
    question: str = ''
    """Question that the page asks before it sends the command; empty for none."""


class Server:
    """Serves the data of one `Watch` in a separate thread, from `start` to `close`."""

    def __init__(
        self,
        watch: Watch,
        commands: Mapping[str, Command],
        *,
        token: str,
        log: Callable[[str], None],
    ) -> None:
        """Prepare a server.

        Parameters
        ----------
        watch
            Data for the page.
        commands
            Buttons, by the name in their URL.
        token
            Token required for commands; empty for a read-only page.
        log
            Called with a line of text after every command that a page sends, executed or refused.

        """
        self._watch, self._commands, self._token, self._log = watch, commands, token, log
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._streams = 0

    def start(self, host: str, port: int) -> str:
        """Start the server, and return the address of the page; port 0 selects any free port.

        Raises
        ------
        ConfigurationError
            Host or port cannot be bound.

        """
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise ConfigurationError(
                expected=f'to serve the dashboard at {host}, port {port}',
                found=str(error.strerror or error),
                remedy='set another port, or end the other program',
            ) from error
        config = uvicorn.Config(
            self._application(host),
            log_config=None,
            access_log=False,
            lifespan='off',
            ws='none',
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(listener,), name='dashboard')
        self._thread.start()
        shown = f'[{host}]' if ':' in host else host
        return f'http://{shown}:{listener.getsockname()[1]}/'

    def notify(self) -> None:
        """Send an event to all open pages; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self.notify()
            self._thread.join()

    def _run(self, listener: socket.socket) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[listener])

        asyncio.run(serve())

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _application(self, host: str) -> Starlette:
        routes = [
            Route('/', lambda request: FileResponse(PAGE / 'index.html')),
            Route('/api/state', lambda request: JSONResponse(self._state())),
            Route('/api/events', self._on_events),
            Route('/api/unlock', self._on_unlock, methods=['POST']),
            Route('/api/commands/{name}', self._on_command, methods=['POST']),
            Mount('/assets', StaticFiles(directory=PAGE)),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_Guard, host=host)])

    def _state(self) -> dict[str, object]:
        return self._watch.state(time.monotonic())

    def _greeting(self) -> dict[str, object]:
        commands = [
            {'name': name, 'label': each.label, 'group': each.group, 'question': each.question}
            for name, each in self._commands.items()
        ]
        return {
            'history': self._watch.history(time.monotonic()),
            'commands': commands if self._token else [],
            'writable': bool(self._token),
        }

    async def _on_events(self, request: Request) -> Response:
        if self._streams >= _STREAMS:
            return JSONResponse({'text': f'{_STREAMS} pages are open already'}, status_code=503)
        return StreamingResponse(self._events(), media_type='text/event-stream')

    async def _events(self) -> AsyncIterator[str]:
        self._streams += 1
        try:
            yield f'event: greeting\ndata: {json.dumps(self._greeting())}\n\n'
            while not self._server.should_exit:
                changed = self._changed
                yield f'event: state\ndata: {json.dumps(self._state())}\n\n'
                try:
                    await asyncio.wait_for(changed.wait(), _HEARTBEAT)
                except asyncio.TimeoutError:
                    continue
        finally:
            self._streams -= 1

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to a request that may not command; None if it may."""
        if permits(self._token, request.headers.get('authorization', '')):
            return None
        text = 'expected the token of this dashboard' if self._token else 'this dashboard is read-only'
        self._log(f'{request.url.path} by {_client(request)} refused: {text}')
        return JSONResponse({'success': False, 'text': text}, status_code=403)

    async def _on_unlock(self, request: Request) -> Response:
        return self._refusal(request) or JSONResponse({'success': True, 'text': 'unlocked'})

    async def _on_command(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        command = self._commands.get(request.path_params['name'])
        if command is None:
            return JSONResponse({'success': False, 'text': 'no such command'}, status_code=404)
        success, text = await command.call()
        self._log(f'{command.label} by {_client(request)}: {"done" if success else "refused"}: {text}')
        return JSONResponse({'success': success, 'text': text})


def _client(request: Request) -> str:
    return request.client.host if request.client else 'unknown'


class _Guard:
    """Refuses requests under another name than that of the server, and adds headers to all responses."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message['type'] == 'http.response.start':
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, 'headers': [*message['headers'], *added]}
            await send(message)

        named = dict(scope['headers']).get(b'host', b'').decode('latin-1')
        if is_own_name(named, self._host):
            await self._app(scope, receive, guarded)
            return
        refusal = JSONResponse({'success': False, 'text': 'expected the address of this dashboard'}, status_code=403)
        await refusal(scope, receive, guarded)
