"""A real PostgreSQL server for the tests of PostgresEvents."""

import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import COMPLETE, TIMEOUT, need
from redis_server import free_port

MODULE, EVENTS = "fastevent.postgres", "PostgresEvents"
BINARIES = Path(os.path.realpath(need("postgres"))).parent
psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed") if not COMPLETE else __import__("psycopg")

#: PostgreSQL does not run as root.
USER = (
    {} if os.geteuid() else {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
)
SETTINGS = "fsync=off full_page_writes=off shared_buffers=8MB max_connections=200".split()


@functools.cache
def template():
    """Return a directory with the files of a new server."""
    return new_files(tempfile.mkdtemp(prefix="postgres-"))


def new_files(folder, *options):
    give(folder)
    command = [BINARIES / "initdb", "--pgdata", folder, "--auth", "trust", "--no-sync", "--username", "test", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **USER)
    return folder


def give(folder):
    """Let the user of the servers have the *folder*."""
    os.chmod(folder, 0o700)
    if USER:
        for path in Path(folder), *Path(folder).rglob("*"):
            os.chown(path, USER["user"], USER["group"])


class Server:
    """A server on a free port of 127.0.0.1, with a directory of its own."""

    durable = ()  # options: it keeps its data when it is killed

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="postgres-")
        self.options = options
        self.port = free_port()
        self.copy_files()
        self.start()

    def copy_files(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(template(), self.folder)
        give(self.folder)

    def start(self):
        with suppress(FileNotFoundError):
            os.remove(f"{self.folder}/postmaster.pid")
        command = [BINARIES / "postgres", "-D", self.folder, "-k", self.folder, "-p", str(self.port), "-h", "127.0.0.1"]
        for setting in (*SETTINGS, *self.options):
            command += ["-c", setting]
        log = open(f"{self.folder}.log", "ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True, **USER)
        log.close()
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self.ask("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None and time.monotonic() < deadline, "the server does not start"
                time.sleep(0.01)

    def client(self, **options):
        settings = {"host": "127.0.0.1", "port": self.port, "user": "test", "dbname": "postgres", **options}
        return " ".join(f"{name}={value}" for name, value in settings.items())

    def ask(self, statement, *arguments):
        with psycopg.connect(self.client(), autocommit=True) as connection:
            cursor = connection.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def program(self):
        """Return what comes before a program, for its parameter `events`; its argument is the prefix."""
        beginning = "import sys\nfrom fastevent.postgres import PostgresEvents\n"
        return beginning + f"events = PostgresEvents({self.client()!r}, prefix=sys.argv[1])\n"

    def put(self, prefix, name, state):
        """Store a state without a message."""
        insert = "INSERT INTO fastevent_events VALUES (%s, %s, now() + interval '1 day')"
        replace = " ON CONFLICT (name) DO UPDATE SET state = excluded.state"
        self.ask(insert + replace, prefix + name, state)

    def get(self, prefix, name):
        rows = self.ask("SELECT state FROM fastevent_events WHERE name = %s AND expires > now()", prefix + name)
        return rows[0][0] if rows else None

    def forget(self, prefix, name):
        self.ask("DELETE FROM fastevent_events WHERE name = %s", prefix + name)

    def seconds_left(self, prefix, name):
        left = "SELECT ceil(extract(epoch FROM expires - now())) FROM fastevent_events WHERE name = %s"
        rows = self.ask(left, prefix + name)
        return int(rows[0][0]) if rows else -1

    def publish(self, prefix, name):
        self.ask("SELECT pg_notify(%s, %s)", prefix, name)

    def count_connections(self):
        return self.ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")[0][0]

    def break_connections(self, *kinds):
        others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        which = {"pubsub": " AND query LIKE 'LISTEN%%'", "normal": " AND query NOT LIKE 'LISTEN%%'"}
        for kind in kinds or ("all",):
            self.ask(f"SELECT pg_terminate_backend(pid) {others}{which.get(kind, '')}".replace("%%", "%"))

    def signal(self, number):
        """Send a signal to all processes of the server."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def processes(self):
        """Return the server's processes, each of which has a session of its own."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *(int(pid) for pid in (children.read_text().split() if children.exists() else []))]

    def kill(self, keep_data=True):
        self.signal(signal.SIGKILL)
        self.process.wait(TIMEOUT)
        if not keep_data:
            self.copy_files()

    def end(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.remove(f"{self.folder}.log")
