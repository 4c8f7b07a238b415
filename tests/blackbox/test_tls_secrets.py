"""Where secrets are not: in core dumps, in memory after their connection, in key logs that nobody asked for.

gdb's gcore writes the core dump that the kernel would: it leaves out what MADV_DONTDUMP says. All of the memory, also
what a dump leaves out, comes from /proc/PID/mem. Whatever is looked for must be found where it has to be, or the search
itself would prove nothing.
"""

import base64
import hmac
import os
import re
import signal
import struct
import subprocess

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from conftest import wait_for

pytestmark = pytest.mark.slow  # a core dump of the sanitized binary would have terabytes

# A suite, the hash of its key derivation, and the lengths of its keys and IVs (TLS 1.2: the implicit part).
SUITES = {"TLS_AES_128_GCM_SHA256": ("sha256", 16, 12), "TLS_AES_256_GCM_SHA384": ("sha384", 32, 12),
          "TLS_CHACHA20_POLY1305_SHA256": ("sha256", 32, 12), "ECDHE-ECDSA-AES128-GCM-SHA256": ("sha256", 16, 4),
          "ECDHE-RSA-AES256-GCM-SHA384": ("sha384", 32, 4), "ECDHE-RSA-CHACHA20-POLY1305": ("sha256", 32, 12)}


# ---- key derivation, from the standards

def expand_label(name, secret, label, length):
    """RFC 8446 section 7.1, for up to one block of the hash."""
    label = b"tls13 " + label
    info = struct.pack("!HB", length, len(label)) + label + b"\0"
    return hmac.new(secret, info + b"\1", name).digest()[:length]


def prf(name, secret, seed, length):
    """RFC 5246 section 5."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.new(secret, a, name).digest()
        out += hmac.new(secret, a + seed, name).digest()
    return out[:length]


class Connection:
    """A client whose secrets are known: `secrets` by name, and `keys`, those that a parked connection lives on."""

    def __init__(self, gateway, folder, suite):
        log = folder / f"{suite}.keys"
        self.name, self.relay = suite, tls.Relay(gateway.secure)
        host, port = self.relay.address
        is_13 = suite.startswith("TLS_")
        choose = ["-tls1_3", "-ciphersuites", suite] if is_13 else ["-tls1_2", "-cipher", suite]
        program = tls.Program("openssl", "s_client", "-connect", f"{host}:{port}", "-quiet", "-keylogfile", log, *choose)
        self.client = tls.Client(program, suite)
        self.client.ping()
        self.lines = [line for line in log.read_text().splitlines() if not line.startswith("#")]
        logged = {line.split()[0]: tuple(map(bytes.fromhex, line.split()[1:])) for line in self.lines}
        self.secrets, self.keys = {}, {}
        self.derive_13(logged) if is_13 else self.derive_12(logged)

    def derive_13(self, logged):
        name, key_len, iv_len = SUITES[self.name]
        for label, (_, secret) in logged.items():
            self.secrets[label] = secret
            self.secrets[f"key of {label}"] = expand_label(name, secret, b"key", key_len)
            if label.endswith("_TRAFFIC_SECRET_0"):
                self.keys[label] = secret
                self.keys[f"key of {label}"] = expand_label(name, secret, b"key", key_len)
                self.keys[f"IV of {label}"] = expand_label(name, secret, b"iv", iv_len)

    def derive_12(self, logged):
        name, key_len, iv_len = SUITES[self.name]
        client_random, master = logged["CLIENT_RANDOM"]
        server_random = bytes(self.relay.down[11:43])  # of ServerHello, which comes first
        block = prf(name, master, b"key expansion" + server_random + client_random, 2 * key_len + 2 * iv_len)
        self.secrets["master secret"] = master
        self.keys = {"client's key": block[:key_len], "server's key": block[key_len:2 * key_len]}
        if iv_len > 4:
            self.keys["client's IV"] = block[2 * key_len:][:iv_len]
            self.keys["server's IV"] = block[2 * key_len:][iv_len:]

    def all(self):
        """What nobody may find: the secrets, the keys, and both as text."""
        found = {f"{self.name}: {label}": secret for label, secret in {**self.secrets, **self.keys}.items()}
        for line in self.lines:
            label, _, secret = line.split()
            found[f"{self.name}: text of {label}"] = secret.encode()
            found[f"{self.name}: TEXT of {label}"] = secret.upper().encode()
        return found

    def close(self):
        self.client.close()
        self.relay.close()


def private_key(path):
    """The secret numbers of a private key as OpenSSL may hold them, and the text of its file."""
    text = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], check=True, capture_output=True,
                          text=True).stdout
    found = {}
    names = "priv|privateExponent|prime1|prime2|exponent1|exponent2|coefficient"
    for label, rows in re.findall(rf"^({names}):\n((?:    .*\n)+)", text, re.M):
        number = bytes.fromhex(re.sub(r"[^0-9a-f]", "", rows)).lstrip(b"\0")
        found[f"{path.name}: {label}"] = number
        found[f"{path.name}: {label} as limbs"] = number[::-1]
    assert found
    pem = path.read_text().splitlines()
    found[f"{path.name}: PEM"] = pem[2].encode()
    der = base64.b64decode("".join(pem[1:-1]))  # the public part is at the end of an EC key, at the start of an RSA key
    found[f"{path.name}: DER"] = der[36:68] if len(der) < 200 else der[-60:-20]
    return found


# ---- memory

def core_dump(pid, folder):
    """What a core dump of a process holds, without its empty pages."""
    path = folder / "core"
    subprocess.run(["gcore", "-o", path, str(pid)], check=True, capture_output=True, timeout=60)
    path = folder / f"core.{pid}"
    kept, empty = bytearray(), bytes(4096)
    with open(path, "rb") as core:
        while page := core.read(4096):
            if page != empty[:len(page)]:
                kept += page
    path.unlink()
    return bytes(kept)


def all_memory(pid):
    """All private memory of a process, also what core dumps leave out: (address, in dumps or not, bytes)."""
    found = []
    with open(f"/proc/{pid}/smaps") as smaps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read()):
            if block.split("\n", 1)[0].endswith("/holdfast.mdb"):  # the data file, as long as it may ever be; read only
                continue
            start, end = (int(part, 16) for part in block.split()[0].split("-"))
            flags = re.search(r"^VmFlags:(.*)", block, re.M).group(1).split()
            if not re.search(r"^Rss: +0 kB", block, re.M) and "rd" in flags and "[v" not in block.split("\n")[0]:
                memory.seek(start)
                found.append((start, "dd" not in flags, memory.read(end - start)))
    return found


def found_in(memory, secrets):
    return sorted(name for name, secret in secrets.items() if secret in memory)


def found_in_all(pid, secrets, dumped_only=False):
    pieces = [piece for _, dumped, piece in all_memory(pid) if dumped or not dumped_only]
    return sorted(name for name, secret in secrets.items() if any(secret in piece for piece in pieces))


@pytest.fixture
def served(start_tls, certs, folder):
    """A gateway with known ticket keys, and all the secrets that live as long as it does."""
    gateway = start_tls(top=f'tickets {{ keys = "{certs}/tickets.keys" }}')
    tickets = (certs / "tickets.keys").read_bytes()
    secrets = {**private_key(certs / "ecdsa.key"), **private_key(certs / "rsa.key")}
    for i in (0, 1):  # 16 name, 32 HMAC, 32 AES
        secrets[f"ticket key {i}: HMAC"] = tickets[80 * i + 16:80 * i + 48]
        secrets[f"ticket key {i}: AES"] = tickets[80 * i + 48:80 * i + 80]
    return gateway, secrets


@pytest.fixture
def connections(served, folder):
    gateway, _ = served
    made = [Connection(gateway, folder, suite) for suite in SUITES]
    yield made
    for connection in made:
        connection.close()


def test_core_dumps_hold_no_secret(served, connections, folder):
    gateway, own = served
    assert gateway.metric("holdfast_connections_parked") == len(connections)
    secrets = dict(own)
    for connection in connections:
        secrets.update(connection.all())
    worker = gateway.worker_pids()[0]
    marker = b"TLS_AES_256_GCM_SHA384"  # a client id: this is the memory of a process that serves these connections
    keys = {f"{c.name}: {label}": key for c in connections for label, key in c.keys.items()}
    alive = found_in_all(worker, {**keys, **own})
    assert set(keys) <= set(alive), "the search finds what must be there"
    assert {"ecdsa.key: priv as limbs", "rsa.key: prime1 as limbs", "ticket key 0: AES"} <= set(alive)
    # The cipher contexts that all connections share are cleared once a second; see the next test but one.
    wait_for(lambda: not found_in_all(worker, keys, dumped_only=True), "contexts cleared", 4)
    core = core_dump(worker, folder)
    assert marker in core
    assert found_in(core, secrets) == []


@pytest.mark.parametrize("child", ["hf-hub", "supervisor"])
def test_core_dumps_of_other_processes_hold_no_secret(served, connections, folder, child):
    gateway, secrets = served
    pid = gateway.pid if child == "supervisor" else gateway.processes()[child]
    core = core_dump(pid, folder)
    assert b"holdfast" in core
    assert found_in(core, secrets) == []


def test_a_core_dump_in_the_middle_of_traffic_holds_no_secret(served, connections, folder):
    """Whatever was used a moment ago, and in both directions."""
    gateway, _ = served
    worker = gateway.worker_pids()[0]
    gateway.publish("broadcast", "x" * 3000)
    for connection in connections:
        connection.client.expect_publish("x" * 3000)
        connection.client.ping()
    os.kill(worker, signal.SIGSTOP)
    try:
        core = core_dump(worker, folder)
    finally:
        os.kill(worker, signal.SIGCONT)
    secrets = {name: secret for connection in connections for name, secret in connection.all().items()}
    assert found_in(core, secrets) == []


def test_nothing_is_left_of_a_connection_that_has_ended(served, connections):
    gateway, _ = served
    worker = gateway.worker_pids()[0]
    secrets = {name: secret for connection in connections for name, secret in connection.all().items()}
    for connection in connections:
        connection.close()
    gateway.wait_metric("holdfast_tls_connections", 0)
    # The cipher contexts that all connections share are cleared once a second.
    wait_for(lambda: not found_in_all(worker, secrets), f"all wiped, not {found_in_all(worker, secrets)}", 4)


def test_nothing_is_left_of_a_handshake_that_was_given_up(served, folder):
    gateway, _ = served
    worker = gateway.worker_pids()[0]
    log = folder / "keys"
    for version in (tls.V12, tls.V13):
        sock = tls.TlsSocket(gateway.secure, tls.context(version, keylog=log), handshake=False)
        sock.handshake(until=lambda: len(log.read_text().splitlines()) > (version == tls.V13) * 2)
        gateway.wait_metric("holdfast_tls_handshakes_in_progress", 1)
        tls.reset(sock.sock)
        gateway.wait_metric("holdfast_tls_handshakes_in_progress", 0)
    secrets = {line: bytes.fromhex(line.split()[2]) for line in log.read_text().splitlines() if line[0] != "#"}
    assert len(secrets) > 3
    wait_for(lambda: not found_in_all(worker, secrets), f"all wiped, not {found_in_all(worker, secrets)}", 4)


# ---- key logs

@pytest.mark.parametrize("asked", [False, True])
def test_secrets_are_logged_only_when_asked_for(start_tls, folder, asked):
    path, mine = folder / "server.keys", folder / "client.keys"
    if asked:
        path.touch()
        path.chmod(0o666)
    gateway = start_tls("debug_keylog = true" if asked else "", env={"SSLKEYLOGFILE": str(path)}, log_level="debug")
    for version in (tls.V12, tls.V13):
        with tls.client(gateway, "c", tls.context(version, keylog=mine)) as client:
            client.ping()
    lines = {line for line in mine.read_text().splitlines() if not line.startswith("#")}
    assert len(lines) >= 6
    assert bool(gateway.events("secrets_are_written", level="warning")) == asked
    if asked:
        assert lines <= set(path.read_text().splitlines())
    else:
        assert not path.exists()
    for line in lines:
        assert line.split()[2] not in gateway.text, "never in the log"


def test_the_log_says_nothing_secret_at_its_most_talkative(start_tls, certs, folder):
    gateway = start_tls(log_level="debug", top=f'tickets {{ keys = "{certs}/tickets.keys" }}')
    connection = Connection(gateway, folder, "TLS_AES_128_GCM_SHA256")
    with mqtt.Client(gateway.secure, connect=False) as stranger:
        stranger.send(b"not TLS")
    gateway.wait_event("tls_handshake_failed")
    connection.close()
    text = gateway.text.lower()
    tickets = (certs / "tickets.keys").read_bytes()
    everything = {**connection.secrets, **connection.keys, **private_key(certs / "ecdsa.key"),
                  "ticket key: HMAC": tickets[16:48], "ticket key: AES": tickets[48:80]}
    for name, secret in everything.items():
        assert secret.hex() not in text, name
        assert base64.b64encode(secret).decode().lower()[:20] not in text, name
