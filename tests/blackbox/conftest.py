"""Starts the real gateway for each test that asks for one, on free ports, and sees that it ends cleanly."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import mqtt_raw  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("HOLDFAST", str(ROOT / "build/test/holdfast"))
# Where mqtt.js is: that of the package node-mqtt, and the current one, which test.sh gets from npm.
NODE_MODULES = {"debian": "/usr/share/nodejs",
                "npm": os.environ.get("HOLDFAST_NPM_MODULES", str(ROOT / "build/npm/node_modules"))}
PATIENCE = mqtt_raw.PATIENCE
REPORTS = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error:|: bug: ")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: needs many seconds or many connections; not run on the sanitized binary")


def wait_for(condition, what="the condition", timeout=PATIENCE):
    """Polls until the condition is true and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.01)


def session(seconds=3600, **more):
    """Options of Client for a session of MQTT 5 that outlives its connection, and is resumed if there is one."""
    return {"clean": False, "props": {"session_expiry": seconds, **more}}


class Answer:
    """An HTTP answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"HTTP {self.status} {self.body[:500]!r}"


class Gateway:
    """One running gateway: `mqtt`, `secure` (with TLS) and `api` are its addresses, `lines` what it has logged."""

    def __init__(self, folder, config="", workers=1, listener="", mqtt="", api="", top="", env=None, args=None,
                 listeners=None, api_bind="127.0.0.1:0", log_format="text", log_level="info", program=None,
                 data_dir=None):
        self.folder = folder
        self.config_file = folder / "holdfast.conf"
        self.log_file = folder / "holdfast.log"
        self.data_dir = pathlib.Path(data_dir or folder / "data")
        self.listening = {}
        if listeners is None:
            listeners = f'listener "clients" {{ bind = "127.0.0.1:0" {listener} }}'
        self.config_file.write_text(config or f"""
workers = {workers}
data_dir = "{self.data_dir}"
log_format = "{log_format}"
log_level = "{log_level}"
{top}
{listeners}
mqtt {{ {mqtt} }}
api {{ bind = "{api_bind}" {api} }}
""")
        os.chmod(self.config_file, 0o644)
        self.log = open(self.log_file, "wb")
        self.process = subprocess.Popen(
            (program or []) + [BINARY, "run"] + (["-c", str(self.config_file)] if args is None else args),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=folder, env={**os.environ, **(env or {})})
        self.pid = self.process.pid
        self.json_log = log_format == "json"

    # ---- log

    @property
    def text(self):
        return self.log_file.read_text(errors="replace")

    @property
    def lines(self):
        return self.text.splitlines()

    def events(self, name, **fields):
        """Log lines of an event as dicts (text format; values without quotes)."""
        found = []
        for line in self.lines:
            event = parse_line(line, self.json_log)
            if event and event["event"] == name and all(str(event.get(k)) == str(v) for k, v in fields.items()):
                found.append(event)
        return found

    def wait_event(self, name, count=1, timeout=PATIENCE, **fields):
        """Waits for at least `count` lines of an event and returns the last of them."""
        return wait_for(lambda: len(self.events(name, **fields)) >= count and self.events(name, **fields),
                        f"{count} log lines '{name}' {fields} in:\n{self.text}", timeout)[-1]

    # ---- life

    def wait_ready(self, timeout=30):
        def ready_or_dead():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text}"
            return self.events("ready")
        wait_for(ready_or_dead, f"ready, in:\n{self.text}", timeout)
        for event in self.events("listening"):
            host, port = event["address"].rsplit(":", 1)
            self.listening[event["listener"]] = (host.strip("[]"), int(port))
        self.mqtt = next((a for n, a in self.listening.items() if n != "api"), None)
        self.secure = self.listening.get("secure")
        self.api = self.listening["api"]
        self.url = f"http://{self.api[0]}:{self.api[1]}"
        return self

    def processes(self):
        """Children by name: {"hf-hub": pid, "hf-worker-0": pid}."""
        found = {}
        for pid in children_of(self.pid):
            with contextlib.suppress(OSError):
                found[pathlib.Path(f"/proc/{pid}/comm").read_text().strip()] = pid
        return found

    def worker_pids(self):
        return [pid for name, pid in sorted(self.processes().items()) if name.startswith("hf-worker-")]

    def kill_child(self, name):
        """SIGKILL for one child; returns its process id. The next one may be there before this returns."""
        pid = self.processes()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self):
        """The power goes off, as far as processes can tell: SIGKILL for the supervisor and all its children."""
        children = children_of(self.pid)
        for pid in [self.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in children), "the end of all processes")

    def wait_successor(self, name, old_pid, timeout=PATIENCE):
        """Waits until the child is there again and READY."""
        child = "hub" if name == "hf-hub" else "worker/" + name.rsplit("-", 1)[1]

        def again():
            ready = self.events("process_ready", child=child)
            return ready and int(ready[-1]["pid"]) != old_pid and ready[-1]
        return int(wait_for(again, f"a successor of {name}, in:\n{self.text}", timeout)["pid"])

    def stop(self, expect=0, sig=signal.SIGTERM, timeout=30):
        """Ends it, and asserts that it ended well and left nobody behind."""
        if self.process.poll() is None:
            children = children_of(self.pid)
            self.process.send_signal(sig)
            self.process.wait(timeout)
            for pid in children:
                assert not is_alive(pid), f"process {pid} left behind:\n{self.text}"
        self.log.close()
        assert self.process.returncode == expect, f"exit status {self.process.returncode}:\n{self.text}"
        self.check_log()

    def check_log(self):
        reports = [line for line in self.lines if REPORTS.search(line)]
        assert not reports, f"report in the log:\n{self.text}"

    def destroy(self):
        """After a failed test: nothing may stay, whatever state it is in."""
        children = children_of(self.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.log.close()

    # ---- MQTT and HTTP

    def client(self, client_id="", version=mqtt_raw.V5, **options):
        return mqtt_raw.Client(self.mqtt, client_id, version, **options)

    def http(self, method, path, body=None, token=None, headers=None, timeout=PATIENCE):
        """A request; `body` may be an object for JSON, or bytes or str as they are."""
        connection = http.client.HTTPConnection(*self.api, timeout=timeout)
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def publish(self, topic, payload, **more):
        """Publishes over HTTP; the answer must be good."""
        answer = self.http("POST", "/v1/publish", {"topic": topic, "payload": payload, **more})
        assert answer.status == 200, answer
        return answer.json

    def metrics(self):
        """/metrics as a dict from the sample with its labels to its value."""
        answer = self.http("GET", "/metrics")
        assert answer.status == 200, answer
        found = {}
        for line in answer.body.decode().splitlines():
            if line and not line.startswith("#"):
                sample, value = line.rsplit(" ", 1)
                found[sample] = float(value)
        return found

    def metric(self, name, **labels):
        """The sum of all samples with this name and (at least) these labels."""
        total, seen = 0.0, False
        for sample, value in self.metrics().items():
            base, _, rest = sample.partition("{")
            if base == name and all(f'{k}="{v}"' in rest for k, v in labels.items()):
                total, seen = total + value, True
        assert seen or labels, f"no metric {name}"
        return total

    def wait_metric(self, name, value, timeout=PATIENCE, **labels):
        """Waits until the metric has a value, or fulfils a condition on it."""
        good = value if callable(value) else lambda n: n == value
        return wait_for(lambda: [n for n in [self.metric(name, **labels)] if good(n)],
                        f"metric {name} {labels} (now {self.metric(name, **labels)})", timeout)[0]

    def wait_registered(self, clients):
        """Waits until the hub knows this many clients: it is told right after CONNACK."""
        self.wait_metric("holdfast_registry_clients", clients)

    def client_on(self, worker, client_id=None, tries=200, **options):
        """A client whose connection lives in this worker: connects from new ports until the kernel's hash says so, and
        only then sends CONNECT."""
        for _ in range(tries):
            client = self.client(client_id or f"on-{worker}", connect=False, version=options.get("version", mqtt_raw.V5))
            if wait_for(lambda: self.worker_of(client) is not None, "accept") and self.worker_of(client) == worker:
                client.connack = client.login(**{k: v for k, v in options.items() if k != "version"})
                return client
            client.close()
        raise AssertionError(f"no connection to worker {worker} in {tries} tries")

    def worker_of(self, client):
        """The number of the worker that holds the client's connection, found by its descriptors."""
        inode = accepted_inode(client)
        for name, pid in self.processes().items():
            if name.startswith("hf-worker-"):
                with contextlib.suppress(OSError):
                    for fd in os.listdir(f"/proc/{pid}/fd"):
                        with contextlib.suppress(OSError):
                            if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                                return int(name.rsplit("-", 1)[1])
        return None


class NoSmallDisk(Exception):
    """No file system can be mounted here."""


class SmallDisk:
    """A file system of some megabytes, in memory. Only processes that are started by `program` see it, at `where`; for
    everybody else it is at `path`. It is there until close(), or until whoever made it is gone."""

    def __init__(self, where, megabytes):
        self.where, self.megabytes = where.resolve(), megabytes
        self.where.mkdir(exist_ok=True)
        mine = os.geteuid() == 0
        # cat ends with this process, and the file system with the last one that sees it.
        make = f'mount -t tmpfs -o size={megabytes}m,mode=777 tmpfs "$0" && echo made && exec cat'
        self.holder = subprocess.Popen(["unshare", *([] if mine else ["-r"]), "-m", "sh", "-c", make, str(self.where)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if self.holder.stdout.readline() != b"made\n":
            self.close()
            raise NoSmallDisk("no file system can be mounted here")
        self.path = pathlib.Path(f"/proc/{self.holder.pid}/root{self.where}")
        self.program = ["nsenter", *([] if mine else ["-U", "--preserve-credentials"]), "-m", "-t", str(self.holder.pid)]

    def room(self):
        """Bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def grow(self, megabytes):
        self.megabytes += megabytes
        subprocess.run(self.program + ["mount", "-o", f"remount,size={self.megabytes}m", "tmpfs", str(self.where)], check=True)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def accepted_inode(client):
    """The inode of the gateway's end of a client's connection, from /proc/net/tcp."""
    port = f":{client.port:04X}"
    peer = f":{client.sock.getpeername()[1]:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in open(table):
            fields = line.split()
            if fields[2].endswith(port) and fields[1].endswith(peer):
                return fields[9]
    return None


def children_of(pid):
    """Process ids of the direct children."""
    try:
        return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def parse_line(line, as_json=False):
    """A log line as a dict with time, level, process, event and its fields; None for foreign text."""
    if as_json:
        with contextlib.suppress(ValueError):
            return json.loads(line)
        return None
    head = re.match(r"(\S+Z) (\w+) (\S+) (\w+)(.*)$", line)
    if not head:
        return None
    event = dict(zip(("time", "level", "process", "event"), head.groups()[:4]))
    for key, value in re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|\S*)', head.group(5)):
        event[key] = value[1:-1] if value.startswith('"') else value
    return event


@pytest.fixture
def folder():
    """A folder that the gateway's unprivileged processes can read too."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(folder, request):
    """A function that starts a gateway; all of them are stopped, and must stop well, at the test's end."""
    started = []

    def start_one(ready=True, **options):
        sub = folder / f"gateway-{len(started)}"
        sub.mkdir()
        gateway = Gateway(sub, **options)
        started.append(gateway)
        return gateway.wait_ready() if ready else gateway

    try:
        yield start_one
        if not getattr(request.node, "test_failed", False):
            for gateway in started:
                if gateway.process.poll() is None:
                    gateway.stop()
                else:
                    gateway.check_log()
    finally:
        for gateway in started:
            gateway.destroy()
            if getattr(request.node, "test_failed", False):
                print(f"---- log of the gateway\n{gateway.text[-8000:]}")


def node_environment(library="debian"):
    """In which node finds this mqtt.js."""
    path = NODE_MODULES[library]
    if not os.path.isdir(f"{path}/mqtt"):
        assert library == "npm", f"no mqtt.js in {path}; ./test.sh installs node-mqtt"
        pytest.skip("test.sh has got no mqtt.js from npm")
    return {**os.environ, "NODE_PATH": path}


@pytest.fixture(params=NODE_MODULES)
def node_env(request):
    """The environment for each mqtt.js there is."""
    return node_environment(request.param)


@pytest.fixture
def small_disk(folder):
    """A function that makes a SmallDisk in the test's folder."""
    with contextlib.ExitStack() as made:
        def make(megabytes):
            try:
                return made.enter_context(SmallDisk(folder / "small", megabytes))
            except NoSmallDisk as e:
                pytest.skip(str(e))
        yield make


@pytest.fixture
def start_on_small_disk(small_disk, start):
    """A function that starts a gateway with its data directory on a small disk; returns it and the way to that disk."""
    def start_one(megabytes, **options):
        disk = small_disk(megabytes)
        return start(program=disk.program, data_dir=disk.where / "data", **options), disk.path
    return start_one


@pytest.fixture
def gateway(start):
    """A gateway with one worker and the defaults."""
    return start()


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """Folder of certificates, see tests/certs/make.sh. Keys are for this account alone."""
    path = tmp_path_factory.mktemp("certs")
    subprocess.run([ROOT / "tests/certs/make.sh", path], check=True)
    return path


def tls_section(certs, more="", name="main", serve=("ecdsa", "rsa")):
    """Text of a tls section that serves some of the certificates."""
    def files(suffix):
        return ", ".join(f'"{certs}/{one}.{suffix}"' for one in serve)
    return f'tls "{name}" {{ certificate = {{{files("pem")}}}  key = {{{files("key")}}}  {more} }}\n'


@pytest.fixture
def start_tls(start, certs):
    """A function that starts a gateway with two listeners, "clients" in plaintext and "secure" with TLS. `tls` is more
    for its section, `serve` its certificates, `more` further sections."""
    def start_one(tls="", serve=("ecdsa", "rsa"), listener="", more="", **options):
        listeners = 'listener "clients" { bind = "127.0.0.1:0" }\n' \
                    f'listener "secure" {{ bind = "127.0.0.1:0"  tls = "main"  {listener} }}\n'
        return start(listeners=listeners + tls_section(certs, tls, serve=serve) + more, **options)
    return start_one


@pytest.fixture
def tls_gateway(start_tls):
    """A gateway with one worker, the defaults and TLS."""
    return start_tls()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" and outcome.get_result().failed:
        item.test_failed = True
