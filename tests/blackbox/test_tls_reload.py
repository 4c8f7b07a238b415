"""TLS files that can be served and are of little use: what start, reload and check say of them, what the metrics show,
and that it is true; and ticket keys that change under clients of both versions."""

import os
import re
import shutil
import ssl
import subprocess

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from conftest import BINARY, wait_for
from tls_raw import V12, V13

EXPIRY = "holdfast_tls_certificate_expiry_timestamp_seconds"
NEXT_UPDATE = "holdfast_tls_next_update_timestamp_seconds"
REFUSED = "refused; what was in force stays in force:\n"
LAST_YEARS = ("20200101000000Z", "20200201000000Z")


def openssl(*args):
    return subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, text=True).stdout


class Authority:
    """One of the test's CAs, with records of its own: for certificates that make.sh does not make."""

    def __init__(self, folder, certs, name="ca"):
        self.folder, self.certs = folder / f"records-of-{name}", certs
        self.folder.mkdir()
        (self.folder / "serial").write_text("77\n")
        (self.folder / "index").write_text("")
        (self.folder / "index.attr").write_text("")
        (self.folder / "cnf").write_text(f"""
[ca]
default_ca = own
[own]
database = {self.folder}/index
serial = {self.folder}/serial
new_certs_dir = {self.folder}
certificate = {certs}/{name}.pem
private_key = {certs}/{name}.key
default_md = sha256
policy = any
[any]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = DNS:deep.test
""")

    def ca(self, *args):
        return openssl("ca", "-config", self.folder / "cnf", "-batch", *args)

    def sign(self, path, name, extensions, *dates):
        """Makes path.pem and path.key."""
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{path}.key", "-out", f"{path}.csr")
        self.ca("-notext", "-in", f"{path}.csr", "-out", f"{path}.pem", "-extensions", extensions, *dates)


def redate(response, year):
    """An OCSP response with another year in all its dates. Who knows the issuer will find the signature wrong; the
    gateway does not, as long as it is not in the file of the certificate."""
    return re.sub(rb"\x18\x0f20\d\d", b"\x18\x0f%d" % year, response)


def reload(gateway):
    return subprocess.run([BINARY, "reload", "-c", gateway.config_file], capture_output=True, text=True, timeout=60,
                          cwd=gateway.folder)


def expect_taken(gateway):
    result = reload(gateway)
    assert result.returncode == 0 and "reloaded: generation " in result.stdout, result
    return result.stdout


def expect_refused(gateway, *words):
    """A reload that is refused with these words, in the answer and in the log."""
    generation = gateway.metric("holdfast_config_generation")
    result = reload(gateway)
    assert result.returncode == 1 and result.stdout.startswith(REFUSED), result
    problem = gateway.events("configuration_problem")[-1]["problem"]
    assert all(word in result.stdout and word in problem for word in words), (result.stdout, problem)
    assert int(gateway.events("reload_refused")[-1]["generation"]) == generation
    assert gateway.metric("holdfast_config_generation") == generation


class Crowd:
    """Clients, in plaintext and over TLS, that nothing is to happen to."""

    def __init__(self, gateway, context=None):
        self.gateway = gateway
        self.clients = [gateway.client(f"plain-{i}") for i in range(2)]
        self.clients += [tls.client(gateway, f"secure-{i}", context) for i in range(4)]

    def expect_all(self):
        self.gateway.publish("broadcast", "still here")
        for client in self.clients:
            client.expect_publish("still here")
            client.ping()

    def close(self):
        self.expect_all()
        for client in self.clients:
            client.close()


def own(certs, name):
    """A context of a client with this certificate. TLS 1.2: a refusal shows in the handshake."""
    return tls.context(V12, certificate=(certs / f"{name}.pem", certs / f"{name}.key"))


def gets_in(gateway, context):
    try:
        tls.client(gateway, "", context).close()
    except (ssl.SSLError, mqtt.Closed, OSError):
        return False
    return True


def staple(gateway, name="localhost"):
    """The year of the next update of the response that is stapled, or None."""
    host, port = gateway.secure
    said = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", "-status", "-servername", name],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20).stdout
    if "OCSP response: no response sent" in said:
        return None
    return int(re.search(r"Next Update: .* (\d{4}) GMT", said).group(1))


# ---- ticket keys

def session_of(gateway, context):
    with tls.client(gateway, "", context) as client:
        client.ping()
        session = client.sock.session
    assert session.has_ticket
    return session


def resumes(gateway, context, session):
    """Whether every worker resumes it, or none does."""
    outcomes = set()
    for _ in range(8):
        with tls.client(gateway, "", context, session=session) as client:
            client.ping()
            outcomes.add(client.sock.tls.session_reused)
    assert len(outcomes) == 1, "workers do not agree"
    return outcomes.pop()


@pytest.mark.parametrize("version", [V12, V13])
def test_new_ticket_keys_are_taken_and_broken_ones_refused(start_tls, certs, folder, version):
    path, context = folder / "tickets.keys", tls.context(version)
    first, second, third = (os.urandom(80) for _ in range(3))
    path.write_bytes(first + second)
    gateway = start_tls(more=f'tickets {{ keys = "{path}" }}\n', workers=2)
    crowd = Crowd(gateway, context)
    old = session_of(gateway, context)
    assert resumes(gateway, context, old)
    path.write_bytes(third + first)  # a new one seals, the old one still opens
    expect_taken(gateway)
    assert resumes(gateway, context, old)
    new = session_of(gateway, context)
    path.write_bytes(third)
    expect_taken(gateway)
    assert not resumes(gateway, context, old)
    assert resumes(gateway, context, new), "it was sealed with the key that has stayed"
    for broken, words in ((third + b"x", "80 bytes"), (first[:79], "80 bytes"), (b"", "empty")):
        path.write_bytes(broken)
        expect_refused(gateway, "tickets.keys", words)
        assert resumes(gateway, context, new) and not resumes(gateway, context, old)
    crowd.close()


# ---- warnings

class Stale:
    """A configuration that may be served and is of little use: each file has its warning."""

    def __init__(self, folder, certs):
        ca, middle = Authority(folder, certs), folder / "middle"
        ca.sign(middle, "Late middle", "authority", "-startdate", LAST_YEARS[0], "-enddate", LAST_YEARS[1])
        Authority(folder, folder, "middle").sign(folder / "deep", "deep.test", "server", "-days", "300")
        with open(folder / "deep.pem", "a") as chain:
            chain.write((folder / "middle.pem").read_text())
        (folder / "old.der").write_bytes(redate((certs / "ocsp.der").read_bytes(), 2020))
        shutil.copy(certs / "ocsp.der", folder / "stray.der")
        (folder / "cas.pem").write_text((certs / "ca.pem").read_text() + (certs / "other-ca.pem").read_text())
        self.folder = folder
        self.tls = f"""
tls "main" {{
    certificate = {{"{certs}/ecdsa.pem", "{certs}/sni.pem", "{folder}/deep.pem"}}
    key = {{"{certs}/ecdsa.key", "{certs}/sni.key", "{folder}/deep.key"}}
    ocsp = {{"{folder}/old.der", "{folder}/stray.der", ""}}
    client_certificate = optional  ca = "{folder}/cas.pem"  crl = "{certs}/crl-old.pem"
}}
"""
        self.lines = [
            rf"{folder}/deep.pem: certificate above it, of Late middle, EXPIRED 2020-02-01T00:00:00Z",
            rf"{certs}/crl-old.pem: CRL of Holdfast test ca, OUTDATED since 2020-02-01T00:00:00Z",
            rf"{folder}/cas.pem: CA of clients, Holdfast test other-ca, expires \S+ \(has NO CRL: its clients are "
            r"refused\)",
            rf"{folder}/old.der: OCSP response for localhost, OUTDATED since 2020-\S+",
            rf"{folder}/stray.der: OCSP response for sni.test, next update not named \(is about ANOTHER certificate: not "
            r"shown to clients\)"]

    def expect_lines(self, text, before):
        for line in self.lines:
            assert any(re.fullmatch(f'{before}tls "main": {line}', said) for said in text.splitlines()), (line, text)

    def start(self, start, **options):
        return start(listeners='listener "clients" { bind = "127.0.0.1:0" }\n'
                               'listener "secure" { bind = "127.0.0.1:0"  tls = "main" }\n' + self.tls, **options)


WARNINGS = {"certificate_expired": ("Late middle", "deep.pem"), "crl_outdated": ("Holdfast test ca", "crl-old.pem"),
            "ca_without_crl": ("Holdfast test other-ca", "cas.pem"), "ocsp_response_outdated": ("localhost", "old.der"),
            "ocsp_response_of_another_certificate": ("sni.test", "stray.der")}


def test_start_reload_and_check_warn_of_what_is_of_no_use(start, certs, folder):
    stale = Stale(folder, certs)
    gateway = stale.start(start)

    def expect_logged(times):
        for name, (subject, file) in WARNINGS.items():
            found = gateway.events(name)
            assert len(found) == times, name
            assert {"level": "warning", "tls": "main", "subject": subject}.items() <= found[-1].items(), found[-1]
            assert found[-1]["file"].endswith(f"/{file}")

    expect_logged(1)
    stale.expect_lines(expect_taken(gateway), "")
    expect_logged(2)
    checked = subprocess.run([BINARY, "check", "-c", gateway.config_file], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and checked.stderr == "", checked
    stale.expect_lines(checked.stdout, "#   ")
    # And the warnings are true.
    assert gets_in(gateway, tls.context(V12))
    assert staple(gateway) is None and staple(gateway, "sni.test") is None
    for name in ("client", "client-other"):
        assert not gets_in(gateway, own(certs, name))
    gateway.wait_event("tls_handshake_failed", certificate="CRL has expired", subject="client")
    gateway.wait_event("tls_handshake_failed", certificate="unable to get certificate CRL", subject="client-other")
    # What is left over from before a renewal makes way for the new response.
    (folder / "old.der").write_bytes((certs / "ocsp.der").read_bytes())
    assert "old.der" not in expect_taken(gateway)
    assert staple(gateway) is not None
    assert len(gateway.events("ocsp_response_outdated")) == 2


def test_ends_of_ocsp_responses_and_expired_intermediates_are_metrics(start, certs, folder):
    gateway = Stale(folder, certs).start(start)
    ended = ssl.cert_time_to_seconds("Feb  1 00:00:00 2020 GMT")
    said = openssl("ocsp", "-respin", folder / "old.der", "-noverify", "-resp_text")
    outdated = ssl.cert_time_to_seconds(re.search(r"Next Update: (.*)", said).group(1))

    def shown(kinds):
        found = {k: v for k, v in gateway.metrics().items() if k.startswith((EXPIRY, NEXT_UPDATE))}
        return {k: v for k, v in found.items() if re.search(r'kind="(\w+)"', k).group(1) in kinds}

    expected = {f'{EXPIRY}{{tls="main",kind="issuer",file="{folder}/deep.pem",subject="Late middle"}}': ended,
                f'{NEXT_UPDATE}{{tls="main",kind="crl",file="{certs}/crl-old.pem",subject="Holdfast test ca"}}': ended,
                f'{NEXT_UPDATE}{{tls="main",kind="ocsp",file="{folder}/old.der",subject="localhost"}}': outdated}
    kinds = {"issuer", "crl", "ocsp"}
    wait_for(lambda: shown(kinds) == expected, f"{expected}, not {shown(kinds)}")
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    wait_for(lambda: shown(kinds) == expected, "all of it in a new hub")
    assert len(shown({"server"})) == 3 and len(shown({"client_ca"})) == 2
