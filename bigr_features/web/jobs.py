"""Work that takes long: one job at a time, a short queue, and a record of what happened that any page can follow from any point."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..functional.printing import one_line
from .answers import KEPT, Refused, json_of, picture
from .limits import Limits

log = logging.getLogger(__name__)

ENDED = ("done", "failed", "cancelled")
LOOK = 0.05  # seconds between two looks for news
BEAT = 10.0  # seconds between signs of life


class Cancelled(BaseException):
    """The job was asked to end. No Exception, so that no handler of errors takes it for one."""


class Job:
    """A piece of work, and what it has said.

    Parameters
    ----------
    kind : str
    work : callable
        Takes the job, calls `say`, `keep` and `check`, and returns what the last event holds.
    """

    def __init__(self, kind: str, work: Callable[[Job], dict]):
        self.id, self.kind, self.work = secrets.token_hex(8), kind, work
        self.state = "waiting"
        self.events: list[dict] = []
        self.pictures: dict[str, bytes] = {}
        self.stop = threading.Event()

    def say(self, what: str, **content) -> None:
        """Add an event."""
        self.events.append({"what": what, **content})

    def keep(self, name: str, content: bytes) -> None:
        """Keep an encoded picture, which events may name."""
        self.pictures[name] = content

    def check(self) -> None:
        """End here if that was asked for."""
        if self.stop.is_set():
            raise Cancelled

    def run(self) -> None:
        """Do the work; what goes wrong becomes the last event."""
        self.say("running")
        try:
            self.check()
            result = self.work(self)
            self._end("done", **result)
        except Cancelled:
            self._end("cancelled")
        except (ValueError, TypeError, OSError, ImportError) as error:
            self._end("failed", error=one_line(error))
        except Exception as error:
            log.error("a job failed", exc_info=error)
            self._end("failed", error=f"the server failed ({type(error).__name__}); its terminal says more.")

    def _end(self, state: str, **content) -> None:
        self.say(state, **content)  # before the state: who sees the end finds the event
        self.state = state


class Worker:
    """One thread that does one job after the other."""

    def __init__(self, limits: Limits):
        self.limits, self.streams, self.closing = limits, 0, False
        self.makers: dict[str, Callable[[dict], Callable[[Job], dict]]] = {}
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock, self._news = threading.Lock(), threading.Condition()
        self._thread: threading.Thread | None = None

    def routes(self) -> list[Route]:
        """Begin a job, list jobs, follow one, end one, see its pictures."""
        return [
            Route("/api/jobs", self.begin, methods=["POST"]),
            Route("/api/jobs", self.listed, methods=["GET"]),
            Route("/api/jobs/{id}", self.cancel, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", self.events),
            Route("/api/jobs/{id}/pictures/{name}", self.show),
        ]

    def __getitem__(self, item: str) -> Job:
        if item not in self._jobs:
            raise Refused(404, "this job is not known any more; begin it again.")
        return self._jobs[item]

    def submit(self, kind: str, work: Callable[[Job], dict]) -> Job:
        """Put work into the queue; 429 if that is full."""
        with self._lock:
            if self.closing:
                raise Refused(503, "the server is ending.")
            waiting = sum(job.state == "waiting" for job in self._jobs.values())
            running = any(job.state == "running" for job in self._jobs.values())
            if waiting - (not running) >= self.limits.waiting:  # the first of them is about to run
                raise Refused(429, f"one job is running and {self.limits.waiting} wait; cancel one, or wait.")
            job = Job(kind, work)
            self._jobs[job.id] = job
            ended = [item for item, old in self._jobs.items() if old.state in ENDED]
            for item in ended[: max(0, len(ended) - self.limits.jobs)]:
                del self._jobs[item]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()
        with self._news:
            self._news.notify()
        return job

    def _next(self) -> Job | None:
        """The job whose turn it is, which counts as running from now on."""
        with self._lock:
            job = next((job for job in self._jobs.values() if job.state == "waiting"), None)
            if job is not None:
                job.state = "running"
            return job

    def _work(self) -> None:
        while not self.closing:
            job = self._next()
            if job is None:
                with self._news:
                    self._news.wait(0.2)
            else:
                job.run()

    def place(self, job: Job) -> int:
        """How many jobs come before this one; 0 for one that runs or has ended."""
        if job.state != "waiting":
            return 0
        with self._lock:
            before = [other.state in ("running", "waiting") for other in self._jobs.values()]
            return sum(before[: list(self._jobs).index(job.id)])

    def close(self, wait: float = 5.0) -> int:
        """End all jobs; how many had not ended."""
        self.closing = True
        open_jobs = [job for job in self._jobs.values() if job.state not in ENDED]
        for job in open_jobs:
            job.stop.set()
        if self._thread is not None:
            self._thread.join(wait)
        for job in open_jobs:
            self._end_waiting(job)
        return len(open_jobs)

    def _end_waiting(self, job: Job) -> None:
        with self._lock:
            if job.state == "waiting":
                job._end("cancelled")

    async def begin(self, request: Request) -> Response:
        """POST {"kind": ..., ...}."""
        asked = await json_of(request)
        maker = self.makers.get(str(asked.get("kind")))
        if maker is None:
            raise Refused(400, f"there is no kind of job {str(asked.get('kind'))[:40]!r}; choose one of {', '.join(self.makers)}.")
        work = await run_in_threadpool(maker, asked)
        job = self.submit(asked["kind"], work)
        return JSONResponse({"id": job.id, "place": self.place(job)}, 202)

    async def listed(self, request: Request) -> Response:
        """All jobs that are known."""
        return JSONResponse([{"id": job.id, "kind": job.kind, "state": job.state, "place": self.place(job)} for job in self._jobs.values()])

    async def cancel(self, request: Request) -> Response:
        """End a job, at its next step."""
        job = self[request.path_params["id"]]
        job.stop.set()
        self._end_waiting(job)
        return JSONResponse({"id": job.id, "state": job.state})

    async def show(self, request: Request) -> Response:
        """A picture of a job."""
        found = self[request.path_params["id"]].pictures.get(request.path_params["name"])
        if found is None:
            raise Refused(404, "the job has no such picture.")
        return picture(found, KEPT)

    async def events(self, request: Request) -> Response:
        """What a job has said and says, as server-sent events, after the one that `Last-Event-ID` names."""
        job = self[request.path_params["id"]]
        last = request.headers.get("last-event-id", "-1")
        start = int(last) + 1 if last.removeprefix("-").isdecimal() and len(last) < 9 else 0
        if self.streams >= self.limits.streams:
            raise Refused(503, f"{self.limits.streams} streams are open, which is the most; close other windows of this page.")
        return StreamingResponse(self._stream(job, max(0, start)), media_type="text/event-stream")

    async def _stream(self, job: Job, start: int) -> AsyncIterator[str]:
        self.streams += 1
        try:
            number, place, silent = start, None, 0.0
            while not self.closing:
                ended = job.state in ENDED
                if job.state == "waiting" and place != self.place(job):
                    place = self.place(job)
                    yield f"data: {json.dumps({'what': 'waiting', 'place': place})}\n\n"
                while number < len(job.events):
                    yield f"id: {number}\ndata: {json.dumps(job.events[number])}\n\n"
                    number, silent = number + 1, 0.0
                if ended:
                    return
                await asyncio.sleep(LOOK)
                silent += LOOK
                if silent >= BEAT:
                    yield ": still here\n\n"
                    silent = 0.0
        finally:
            self.streams -= 1
