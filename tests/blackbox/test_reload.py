"""Certificates at the start, and new ones while everything runs: `holdfast check`, `holdfast reload`, SIGHUP."""

import contextlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import mqtt_raw as mqtt
from conftest import BINARY, ROOT, is_alive, wait_for

AS_ROOT = os.geteuid() == 0
EXPIRY = "holdfast_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """Folder of certificates, see tests/certs/make.sh. Keys are for this account alone."""
    path = tmp_path_factory.mktemp("certs")
    subprocess.run([ROOT / "tests/certs/make.sh", path], check=True)
    return path


class Served:
    """A gateway's certificate files s.crt and s.key, its configuration, and how to change them."""

    def __init__(self, folder, certs):
        self.certs, self.folder = certs, folder
        self.crt, self.key = folder / "s.crt", folder / "s.key"
        self.more = ""  # further options of the tls section
        self.put("ecdsa")

    def put(self, name, key=None):
        """Makes NAME the certificate that the files hold."""
        shutil.copy(self.certs / f"{name}.pem", self.crt)
        shutil.copy(self.certs / f"{key or name}.key", self.key)

    def section(self, name="main"):
        return f'tls "{name}" {{ certificate = "{self.crt}"  key = "{self.key}"  {self.more} }}\n'

    def options(self, **more):
        """What start() needs: a plaintext listener, then a TLS one."""
        return {"listeners": 'listener "clients" { bind = "127.0.0.1:0" }\n'
                             'listener "secure" { bind = "127.0.0.1:0"  tls = "main" }\n' + self.section(), **more}


@pytest.fixture
def served(folder, certs):
    return Served(folder, certs)


def context_for(versions=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if versions:
        context.minimum_version = context.maximum_version = versions
    return context


def tls_client(gateway, client_id="", context=None, session=None, login=True):
    """An MQTT client over TLS."""
    client = mqtt.Client(gateway.listening["secure"], client_id, connect=False)
    try:
        client.sock = (context or context_for()).wrap_socket(client.sock, session=session)
        if login:
            client.login()
    except BaseException:
        client.close()
        raise
    return client


def served_now(gateway):
    """The certificate that a new connection gets, as DER."""
    with tls_client(gateway, login=False) as client:
        return client.sock.getpeercert(binary_form=True)


def der(path):
    text = pathlib.Path(path).read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN"):text.index("-----END") + 25] + "\n")


def expect_served(gateway, path, times=12):
    """New connections, spread over the workers by the kernel, all get this certificate."""
    for _ in range(times):
        assert served_now(gateway) == der(path)


def reload(gateway, *args, **options):
    """`holdfast reload` as a finished process."""
    return subprocess.run([BINARY, "reload", *(args or ["-c", gateway.config_file])], capture_output=True, text=True,
                          timeout=60, cwd=gateway.folder, **options)


def reload_by(how, gateway):
    """Reloads one way or the other; returns the log line of its end."""
    before = len(gateway.events("reloaded")) + len(gateway.events("reload_refused"))
    if how == "command":
        reload(gateway)
    else:
        gateway.process.send_signal(signal.SIGHUP)
    return wait_for(lambda: (found := gateway.events("reloaded") + gateway.events("reload_refused"))
                    and len(found) > before and max(found, key=lambda e: e["time"]), "the end of the reload")


def check(path, **options):
    return subprocess.run([BINARY, "check", "-c", str(path)], capture_output=True, text=True, timeout=60, **options)


# ---- check and start

def test_check_names_the_certificates_of_each_listener(folder, certs):
    path = folder / "h.conf"
    path.write_text(f"""
listener "both" {{ bind = "127.0.0.1:0" tls = "two" }}
listener "plain" {{ bind = "127.0.0.1:0" }}
tls "two" {{
    certificate = {{"{certs}/ecdsa.pem", "{certs}/rsa.pem"}}
    key = {{"{certs}/ecdsa.key", "{certs}/rsa.key"}}
}}
tls "unused" {{ certificate = "{certs}/wildcard.pem"  key = "{certs}/wildcard.key" }}
""")
    result = check(path)
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    at = lines.index("# listener both: MQTT over TLS on 127.0.0.1:0, one socket per worker")
    year = r"expires 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    names = "localhost, 127.0.0.1, ::1"
    assert re.fullmatch(rf'#   tls "two": {certs}/ecdsa.pem: {names}, ECDSA P-256, {year}', lines[at + 1])
    assert re.fullmatch(rf'#   tls "two": {certs}/rsa.pem: {names}, RSA 2048, {year}', lines[at + 2])
    assert lines[at + 3] == "# listener plain: MQTT on 127.0.0.1:0, one socket per worker"
    assert result.stderr == ""


def test_check_says_that_a_certificate_has_expired(folder, certs):
    path = folder / "h.conf"
    path.write_text(f'listener "l" {{ bind = "127.0.0.1:0" tls = "t" }}\n'
                    f'tls "t" {{ certificate = "{certs}/expired.pem" key = "{certs}/expired.key" }}\n')
    result = check(path)
    assert result.returncode == 0, result
    assert "expired.pem: expired.test, ECDSA P-256, EXPIRED 2020-02-01T00:00:00Z" in result.stdout


BAD = {
    "no certificate file": (lambda s: s.crt.unlink(), ["s.crt", "No such file or directory"]),
    "no key file": (lambda s: s.key.unlink(), ["s.key", "No such file or directory"]),
    "garbage": (lambda s: s.crt.write_text("garbage\n"), ["s.crt"]),
    "empty": (lambda s: s.key.write_text(""), ["s.key", "empty"]),
    "cut": (lambda s: s.crt.write_text(s.crt.read_text()[:200]), ["s.crt"]),
    "another key": (lambda s: s.put("ecdsa", "rsa"), ["s.key"]),
    "a key with a passphrase": (lambda s: subprocess.run(
        ["openssl", "ec", "-in", s.certs / "ecdsa.key", "-out", s.key, "-aes128", "-passout", "pass:secret"], check=True,
        capture_output=True), ["s.key", "encrypted"]),
    "a folder": (lambda s: (s.crt.unlink(), s.crt.mkdir()), ["s.crt", "directory"]),
    "ciphers": (lambda s: setattr(s, "more", 'ciphers = "NONSENSE"'), ["ciphers"]),
    "groups": (lambda s: setattr(s, "more", 'groups = "X25519:Y25519"'), ["groups"]),
    "an empty CA folder": (lambda s: (
        (s.folder / "cas").mkdir(), setattr(s, "more", f'client_certificate = required ca = "{s.folder}/cas"')),
        ["cas", "no file in this folder"]),
    "no CA file": (lambda s: setattr(s, "more", 'client_certificate = required ca = "nowhere.pem"'), ["nowhere.pem"]),
}


@pytest.mark.parametrize("what", BAD)
def test_check_and_start_refuse_what_cannot_be_served(start, served, what):
    break_it, expected = BAD[what]
    break_it(served)
    gateway = start(ready=False, **served.options())
    assert gateway.process.wait(20) == 1
    failed = gateway.events("start_failed")
    assert len(failed) == 1 and all(text in failed[0]["error"] for text in expected), gateway.text
    assert not gateway.events("listening") and not gateway.events("process_started")
    result = check(gateway.config_file)
    assert result.returncode == 1 and result.stdout == ""
    assert all(text in result.stderr for text in expected), result.stderr


def test_check_names_all_bad_sections_at_once(folder, served):
    path = folder / "h.conf"
    path.write_text('listener "l" { bind = "127.0.0.1:0" }\n' + served.section("one") + served.section("two"))
    served.crt.write_text("garbage")
    result = check(path)
    assert result.returncode == 1
    assert 'tls "one": ' in result.stderr and 'tls "two": ' in result.stderr, result.stderr


def test_a_section_that_does_not_exist_is_refused_with_its_line(folder, served):
    path = folder / "h.conf"
    path.write_text('listener "l" {\n bind = "127.0.0.1:0"\n tls = "mian"\n}\n' + served.section())
    result = check(path)
    assert result.returncode == 1
    assert f'{path}:3: listener.tls: there is no section tls "mian", expected perhaps "main"' in result.stderr


def test_relative_names_count_from_where_the_gateway_is_started(start, served):
    served.crt, served.key = pathlib.Path("../s.crt"), pathlib.Path("../s.key")
    gateway = start(**served.options())
    expect_served(gateway, served.folder / "s.crt", 1)


def test_the_log_warns_of_certificates_that_expire(start, served, certs, folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "10", "-subj", "/CN=soon.test", "-keyout", folder / "soon.key", "-out", folder / "soon.crt"],
                   check=True, capture_output=True)
    gateway = start(top=f"""
tls "soon" {{ certificate = "{folder}/soon.crt" key = "{folder}/soon.key" }}
tls "late" {{ certificate = "{certs}/expired.pem" key = "{certs}/expired.key" }}
""", **served.options())
    good, soon, late = (gateway.events(name)[0] for name in
                        ("certificate", "certificate_expires_soon", "certificate_expired"))
    assert (good["tls"], good["level"], good["subject"]) == ("main", "info", "localhost")
    assert (soon["tls"], soon["level"], soon["subject"]) == ("soon", "warning", "soon.test")
    assert 8 <= int(soon["days"]) <= 10
    assert (late["tls"], late["level"], late["expires"]) == ("late", "warning", "2020-02-01T00:00:00Z")
    assert int(late["days"]) < 0


# ---- new certificates

@pytest.mark.parametrize("how", ["command", "signal"])
def test_new_certificates_are_served_by_all_workers_and_nobody_is_disconnected(start, served, how):
    gateway = start(workers=3, **served.options())
    expect_served(gateway, served.certs / "ecdsa.pem", 3)
    plain = [gateway.client(f"plain-{i}") for i in range(6)]
    secure = [tls_client(gateway, f"secure-{i}") for i in range(6)]
    served.put("sni")
    done = reload_by(how, gateway)
    assert (done["event"], done["generation"], done["workers"], done["certificates"]) == ("reloaded", "2", "3", "1")
    expect_served(gateway, served.certs / "sni.pem")
    gateway.publish("broadcast", "still here")
    for client in plain + secure:
        client.expect_publish("still here")
        client.ping()
        client.close()
    assert not gateway.events("process_died")


def test_a_reload_says_what_is_in_force(start, served):
    gateway = start(workers=2, **served.options())
    served.put("wildcard")
    result = reload(gateway)
    assert result.returncode == 0, result
    first, second = result.stdout.splitlines()
    assert re.fullmatch(rf'tls "main": {served.crt}: \*\.wild\.test, ECDSA P-256, expires \S+Z', first)
    assert re.fullmatch(r"reloaded: generation 2, 2 workers, 1 certificate, \d+ ms", second)
    assert result.stderr == ""


def test_openssl_sees_the_new_certificate(start, served):
    gateway = start(**served.options())
    host, port = gateway.listening["secure"]

    def subject():
        out = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}"], stdin=subprocess.DEVNULL,
                             capture_output=True, text=True, timeout=20).stdout
        return re.search(r"^subject=.*CN = (\S+)", out, re.M).group(1)

    assert subject() == "localhost"
    served.put("sni")
    assert reload(gateway).returncode == 0
    assert subject() == "sni.test"


def test_settings_of_a_section_change_as_well(start, served):
    gateway = start(workers=2, **served.options())
    tls_client(gateway, context=context_for(ssl.TLSVersion.TLSv1_2)).close()
    text = gateway.config_file.read_text()
    gateway.config_file.write_text(text.replace('tls "main" {', 'tls "main" { min_version = 1.3 '))
    assert reload(gateway).returncode == 0
    for _ in range(6):
        with pytest.raises((ssl.SSLError, OSError)):
            tls_client(gateway, context=context_for(ssl.TLSVersion.TLSv1_2))
    tls_client(gateway).close()


def test_sections_may_come_and_those_in_use_stay(start, served, certs):
    gateway = start(**served.options())
    text = gateway.config_file.read_text()
    other = f'tls "first" {{ certificate = "{certs}/rsa.pem" key = "{certs}/rsa.key" }}\n'
    gateway.config_file.write_text(other + text)  # the numbers of sections change
    result = reload(gateway)
    assert result.returncode == 0 and 'tls "first"' in result.stdout, result
    expect_served(gateway, certs / "ecdsa.pem", 2)
    gateway.config_file.write_text(text.replace('tls "main" {', 'tls "other" {').replace('tls = "main"', 'tls = "other"'))
    result = reload(gateway)
    assert result.returncode == 1
    assert 'tls "main": the section is gone, but listener "secure" uses it until a restart' in result.stdout
    expect_served(gateway, certs / "ecdsa.pem", 2)
    assert gateway.metric(EXPIRY, tls="first") > 0
    gateway.config_file.write_text(text)
    assert reload(gateway).returncode == 0
    assert gateway.metric(EXPIRY, tls="first") == 0


@pytest.mark.parametrize("how", ["command", "signal"])
@pytest.mark.parametrize("what", [w for w in BAD if not BAD[w][0].__code__.co_names[0:1] == ("setattr",)])
def test_a_broken_file_is_refused_and_the_old_one_stays(start, served, what, how):
    break_it, expected = BAD[what]
    gateway = start(workers=2, **served.options())
    with tls_client(gateway, "s") as client:
        break_it(served)
        if served.more:
            text = gateway.config_file.read_text()
            gateway.config_file.write_text(text.replace('tls "main" {', f'tls "main" {{ {served.more} '))
        done = reload_by(how, gateway)
        assert (done["event"], done["level"], done["generation"]) == ("reload_refused", "error", "1")
        problem = gateway.events("configuration_problem")[-1]["problem"]
        assert all(text in problem for text in expected), problem
        expect_served(gateway, served.certs / "ecdsa.pem", 4)
        client.ping()
    gateway.wait_metric("holdfast_reload_failures_total", 1)
    assert gateway.metric("holdfast_reloads_total") == 0
    assert gateway.metric("holdfast_config_generation") == 1


def test_the_command_prints_what_is_wrong(start, served):
    gateway = start(**served.options())
    served.crt.write_text("garbage")
    result = reload(gateway)
    assert result.returncode == 1
    assert result.stdout.startswith("refused; what was in force stays in force:\n") and "s.crt" in result.stdout
    served.put("sni")
    assert reload(gateway).returncode == 0
    expect_served(gateway, served.certs / "sni.pem", 2)


def test_a_broken_configuration_is_refused_whole(start, served):
    gateway = start(**served.options())
    text = gateway.config_file.read_text()
    served.put("sni")
    gateway.config_file.write_text(text + "bogus = 1\nworkers = x\n")
    result = reload(gateway, "-d", gateway.folder / "data")
    assert result.returncode == 1
    lines = len(text.splitlines())
    assert f"holdfast.conf:{lines + 1}: bogus: unknown option" in result.stdout
    assert f'holdfast.conf:{lines + 2}: workers: ' in result.stdout
    expect_served(gateway, served.certs / "ecdsa.pem", 2)
    result = reload(gateway)  # the command needs the file itself to know where the gateway is
    assert result.returncode == 1 and "bogus" in result.stderr and "was not asked" in result.stderr
    gateway.config_file.unlink()
    result = reload(gateway, "-d", gateway.folder / "data")
    assert result.returncode == 1 and "cannot be read: No such file" in result.stdout


def test_what_needs_a_restart_is_named_and_left(start, served):
    gateway = start(workers=1, **served.options())
    text = gateway.config_file.read_text()
    gateway.config_file.write_text(text.replace("workers = 1", "workers = 2").replace("mqtt { ", "mqtt { max_client_id = 99 ")
                                   .replace('bind = "127.0.0.1:0"  tls', 'backlog = 99 bind = "127.0.0.1:0"  tls'))
    served.put("sni")
    result = reload(gateway)
    assert result.returncode == 0, result
    names = 'workers, mqtt.max_client_id, listener "secure" backlog'
    assert f"these changes take effect at a restart: {names}\n" in result.stdout
    assert gateway.events("restart_needed")[0]["names"].replace("\\", "") == names
    assert len(gateway.worker_pids()) == 1
    expect_served(gateway, served.certs / "sni.pem", 2)


# ---- processes that come and go

def test_a_worker_that_is_started_later_serves_what_is_in_force(start, served):
    gateway = start(workers=2, **served.options())
    served.put("sni")
    assert reload(gateway).returncode == 0
    served.crt.unlink()  # a new worker reads no file
    for name in ("hf-worker-0", "hf-worker-1"):
        gateway.wait_successor(name, gateway.kill_child(name))
    expect_served(gateway, served.certs / "sni.pem")


def test_tickets_are_good_in_every_worker_also_a_new_one(start, served):
    gateway = start(workers=3, **served.options())
    context = context_for()
    with tls_client(gateway, "first", context) as client:
        client.ping()  # the ticket came with it
        session = client.sock.session
    assert session.has_ticket

    def all_resume():
        for i in range(12):
            with tls_client(gateway, f"again-{i}", context, session) as client:
                assert client.sock.session_reused

    all_resume()
    gateway.wait_successor("hf-worker-1", gateway.kill_child("hf-worker-1"))
    all_resume()
    assert reload(gateway).returncode == 0
    all_resume()


# ---- what decides over clients, staples, ticket keys

def comes_in(gateway, certs, name):
    """Whether a client with this certificate is served."""
    context = context_for()
    context.load_cert_chain(certs / f"{name}.pem", certs / f"{name}.key")
    try:
        tls_client(gateway, f"{name}-now", context).close()
    except (ssl.SSLError, OSError, mqtt.Closed):
        return False
    return True


class File:
    """A file that the tls section names, and what the certificates' folder has for it."""

    def __init__(self, served, name):
        self.certs, self.path = served.certs, served.folder / name

    def put(self, name):
        shutil.copy(self.certs / name, self.path)
        return self.path


def expect_refused(gateway, file, said):
    """A file that makes no sense is refused by its name, and nothing changes."""
    file.path.write_text("nonsense")
    result = reload(gateway)
    assert result.returncode == 1 and f"{file.path}: {said}" in result.stdout + result.stderr, result


def test_new_cas_hold_for_new_connections(start, served, certs):
    ca = File(served, "ca.pem")
    served.more = f'client_certificate = required  ca = "{ca.put("ca.pem")}"'
    gateway = start(workers=2, **served.options())
    context = context_for()
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    with tls_client(gateway, "stays", context) as stays:
        assert not comes_in(gateway, certs, "client-other")
        ca.put("other-ca.pem")
        assert reload(gateway).returncode == 0
        assert comes_in(gateway, certs, "client-other") and not comes_in(gateway, certs, "client")
        expect_refused(gateway, ca, "has no certificate in it")
        assert comes_in(gateway, certs, "client-other") and not comes_in(gateway, certs, "client")
        stays.ping()


def test_a_new_crl_holds_for_new_connections_and_tickets(start, served, certs):
    crl = File(served, "crl.pem")
    served.more = f'client_certificate = required  ca = "{certs}/ca.pem"  crl = "{crl.put("crl.pem")}"'
    gateway = start(workers=2, **served.options())
    context = context_for()
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    with tls_client(gateway, "stays", context) as stays:
        stays.ping()
        ticket = stays.sock.session
        crl.put("crl-more.pem")
        assert reload(gateway).returncode == 0
        assert not comes_in(gateway, certs, "client")
        with pytest.raises((ssl.SSLError, OSError, mqtt.Closed)):
            tls_client(gateway, "again", context, ticket).close()
        expect_refused(gateway, crl, "has no CRL in it")
        assert not comes_in(gateway, certs, "client")
        crl.put("crl.pem")
        assert reload(gateway).returncode == 0 and comes_in(gateway, certs, "client")
        stays.ping()
    assert not gateway.events("process_died")


def test_a_new_ocsp_response_is_stapled(start, served, certs):
    response = File(served, "response.der")
    served.more = f'ocsp = "{response.put("ocsp.der")}"'
    gateway = start(workers=2, **served.options())

    def next_update():
        host, port = gateway.listening["secure"]
        said = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", "-status"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=20).stdout
        return re.search(r"Next Update: (.*)", said).group(1)

    with tls_client(gateway, "stays") as stays:
        first = next_update()
        response.put("ocsp-more.der")
        assert reload(gateway).returncode == 0
        second = next_update()
        assert second != first
        expect_refused(gateway, response, "is not an OCSP response")
        assert next_update() == second
        stays.ping()


def test_new_ticket_keys_open_the_old_tickets_while_the_old_keys_are_there(start, served, certs, folder):
    keys, old, new = folder / "tickets.keys", os.urandom(80), os.urandom(80)
    keys.write_bytes(old)
    gateway = start(workers=2, **served.options(top=f'tickets {{ keys = "{keys}" }}'))
    context = context_for(ssl.TLSVersion.TLSv1_2)  # of 1.3 each connection brings a ticket with the newest key

    def ticket():
        with tls_client(gateway, "full", context) as client:
            client.ping()
            return client.sock.session

    def resumes(session):
        with tls_client(gateway, "again", context, session) as client:
            client.ping()
            return client.sock.session_reused

    with tls_client(gateway, "stays") as stays:
        first = ticket()
        keys.write_bytes(new + old)
        assert resumes(first) and reload(gateway).returncode == 0
        assert resumes(first)
        second = ticket()
        keys.write_bytes(new)
        assert reload(gateway).returncode == 0
        assert not resumes(first) and resumes(second)
        keys.write_bytes(new[:-1])
        result = reload(gateway)
        assert result.returncode == 1 and str(keys) in result.stdout + result.stderr, result
        assert not resumes(first) and resumes(second)
        stays.ping()


# ---- what is too old

def test_what_is_outdated_or_missing_is_said_everywhere(start, served, certs, folder):
    """By check, by the log at the start, and by reload; and it is served all the same."""
    both = folder / "cas.pem"
    both.write_text((certs / "ca.pem").read_text() + (certs / "other-ca.pem").read_text())
    served.put("chain")
    served.more = f'client_certificate = optional  ca = "{both}"  crl = "{certs}/crl-old.pem"'
    gateway = start(**served.options())
    tls_client(gateway).close()
    outdated = f"{certs}/crl-old.pem: CRL of Holdfast test ca, OUTDATED since 2020-02-01T00:00:00Z"
    lacking = rf"{both}: CA of clients, Holdfast test other-ca, expires \S+ \(has NO CRL: its clients are refused\)"
    for said in (check(gateway.config_file).stdout, reload(gateway).stdout):
        assert outdated in said and re.search(lacking, said), said
    events = {name: gateway.events(name)[0] for name in ("crl_outdated", "ca_without_crl")}
    assert all(event["level"] == "warning" and event["tls"] == "main" for event in events.values())
    assert events["ca_without_crl"]["subject"] == "Holdfast test other-ca"
    assert "Holdfast test ca," not in reload(gateway).stdout.replace(outdated, ""), "what is well is not told of"


def test_everything_dated_is_a_metric(start, served, certs):
    served.put("chain")
    served.more = f'client_certificate = optional  ca = "{certs}/ca.pem"  crl = "{certs}/crl.pem"'
    gateway = start(**served.options())
    now = time.time()
    for kind, subject, file in (("server", "chain.test", served.crt), ("issuer", "Holdfast test middle-ca", served.crt),
                                ("client_ca", "Holdfast test ca", certs / "ca.pem")):
        left = gateway.metric(EXPIRY, tls="main", kind=kind, subject=subject, file=str(file)) - now
        assert 360 < left / 86400 < 366, kind
    left = gateway.metric("holdfast_tls_next_update_timestamp_seconds", tls="main", kind="crl",
                          subject="Holdfast test ca", file=f"{certs}/crl.pem") - now
    assert 360 < left / 86400 < 366


def test_a_worker_that_dies_in_the_middle_of_a_reload_does_not_hold_it_up(start, served):
    gateway = start(workers=2, **served.options())
    os.kill(gateway.processes()["hf-worker-0"], signal.SIGSTOP)
    served.put("sni")
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_event("tls_loaded", process="worker/1", count=2)
    assert not gateway.events("reloaded")
    gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    gateway.wait_event("reloaded", generation=2)
    expect_served(gateway, served.certs / "sni.pem")


def test_a_worker_that_does_not_answer_is_named_and_follows_when_it_can(start, served):
    gateway = start(workers=2, **served.options())
    pid = gateway.processes()["hf-worker-0"]
    os.kill(pid, signal.SIGSTOP)
    served.put("sni")
    result = reload(gateway)
    assert result.returncode == 1
    assert "worker/0 has not answered within 5 s" in result.stdout and "incomplete: generation 2" in result.stdout
    assert gateway.events("reload_incomplete") and not gateway.events("reloaded")
    gateway.wait_metric("holdfast_reload_failures_total", 1)
    os.kill(pid, signal.SIGCONT)
    gateway.wait_event("tls_loaded", process="worker/0", count=2)
    expect_served(gateway, served.certs / "sni.pem")


def test_reloads_during_a_reload_become_one(start, served):
    gateway = start(workers=2, **served.options())
    pid = gateway.processes()["hf-worker-0"]
    os.kill(pid, signal.SIGSTOP)
    clients = [Control(gateway).ask()]
    gateway.wait_event("reloading")
    gateway.wait_event("certificate", count=2)  # the files have been read
    served.put("sni")
    clients += [Control(gateway).ask() for _ in range(3)]
    gateway.process.send_signal(signal.SIGHUP)
    Control(gateway).expect_dropped(b"x")  # when this is answered, what was sent before has been read
    os.kill(pid, signal.SIGCONT)
    answers = [client.answer() for client in clients]
    assert [done for done, _ in answers] == [True] * 4, answers
    assert [re.search(r"generation (\d)", text).group(1) for _, text in answers] == ["2", "3", "3", "3"]
    assert len(gateway.events("reloaded")) == 2
    expect_served(gateway, served.certs / "sni.pem", 4)


def test_a_stop_during_a_reload_ends_both(start, served):
    gateway = start(workers=2, top='shutdown_timeout = "500ms"', **served.options())
    os.kill(gateway.processes()["hf-worker-0"], signal.SIGSTOP)
    result = []
    thread = threading.Thread(target=lambda: result.append(reload(gateway)))
    thread.start()
    gateway.wait_event("reloading")
    gateway.stop()
    thread.join()
    assert result[0].returncode == 1 and "the gateway stops" in result[0].stdout, result


# ---- metrics

def test_expiry_and_reloads_are_metrics(start, served, certs):
    gateway = start(workers=2, **served.options())

    def sample(subject, source):
        text = subprocess.run(["openssl", "x509", "-in", source, "-noout", "-enddate"], check=True, capture_output=True,
                              text=True).stdout
        expires = ssl.cert_time_to_seconds(text.strip().removeprefix("notAfter="))
        return {f'{EXPIRY}{{tls="main",kind="server",file="{served.crt}",subject="{subject}"}}': expires}

    def shown():
        return {k: v for k, v in gateway.metrics().items() if k.startswith(EXPIRY)}

    wait_for(lambda: shown() == sample("localhost", certs / "ecdsa.pem"), f"the first expiry, not {shown()}")
    served.put("wildcard")
    assert reload(gateway).returncode == 0
    wait_for(lambda: shown() == sample("*.wild.test", certs / "wildcard.pem"), f"the second expiry, not {shown()}")
    gateway.wait_metric("holdfast_reloads_total", 1)
    assert gateway.metric("holdfast_config_generation") == 2
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    wait_for(lambda: shown() == sample("*.wild.test", certs / "wildcard.pem"), "the expiry in a new hub")


def test_without_tls_there_is_no_expiry_metric(gateway):
    assert not [k for k in gateway.metrics() if k.startswith(EXPIRY)]
    assert gateway.metric("holdfast_config_generation") == 1


# ---- secrets

def test_keys_are_given_to_workers_alone(start, served):
    gateway = start(workers=2, **served.options())
    processes = gateway.processes()

    def bundles(pid):
        found = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        return [name for name in found if "holdfast-tls" in name]

    assert bundles(processes["hf-hub"]) == []
    assert bundles(processes["hf-worker-0"]) == [], "or keys that were replaced would stay readable"
    assert "holdfast-tls" not in pathlib.Path(f"/proc/{processes['hf-hub']}/maps").read_text()
    for _ in range(3):
        assert reload(gateway).returncode == 0
    assert len(bundles(gateway.pid)) == 1, "the supervisor keeps the bundle in force and no other"


def test_secrets_are_written_only_when_asked_for_and_with_a_warning(start, served, folder):
    silent, loud = folder / "silent.log", folder / "loud.log"
    gateway = start(**served.options(env={"SSLKEYLOGFILE": str(silent)}))
    tls_client(gateway, "a").close()
    gateway.stop()
    assert not silent.exists() and not gateway.events("secrets_are_written")
    served.more = "debug_keylog = true"
    loud.write_text("before\n")
    gateway = start(workers=2, **served.options(env={"SSLKEYLOGFILE": str(loud)}))
    assert gateway.wait_event("secrets_are_written")["level"] == "warning"
    for i in range(4):
        tls_client(gateway, f"c{i}").close()
    gateway.stop()
    lines = loud.read_text().splitlines()
    assert lines[0] == "before" and sum(line.startswith("CLIENT_TRAFFIC_SECRET_0 ") for line in lines) == 4
    assert loud.stat().st_mode & 0o777 == 0o600
    gateway = start(**served.options(env={"SSLKEYLOGFILE": ""}))
    assert gateway.events("debug_keylog_ignored")


def set_keylog(gateway, on):
    text = re.sub(r" debug_keylog = \w+", "", gateway.config_file.read_text())
    gateway.config_file.write_text(text.replace('tls "main" {', f'tls "main" {{ debug_keylog = {str(on).lower()}'))


def test_the_key_log_follows_reloads_with_a_warning_each_time(start, served, folder):
    log = folder / "secrets.log"
    served.more = "debug_keylog = true"
    gateway = start(**served.options(env={"SSLKEYLOGFILE": str(log)}))
    tls_client(gateway, "a").close()
    wait_for(lambda: log.stat().st_size, "secrets")
    for on, warnings in ((False, 1), (True, 2), (True, 2), (False, 2)):
        set_keylog(gateway, on)
        assert reload(gateway).returncode == 0
        before = log.stat().st_size
        tls_client(gateway, "b").close()
        gateway.wait_metric("holdfast_sessions", 0)
        assert (log.stat().st_size > before) == on
        assert len(gateway.events("secrets_are_written")) == warnings


def test_a_key_log_does_not_begin_with_a_reload(start, served, folder):
    """Workers that run have no file for it; nothing is written, and that is said."""
    log = folder / "secrets.log"
    gateway = start(**served.options(env={"SSLKEYLOGFILE": str(log)}))
    set_keylog(gateway, True)
    result = reload(gateway)
    assert result.returncode == 0 and "debug_keylog takes effect at a restart" in result.stdout
    assert gateway.events("debug_keylog_ignored") and not gateway.events("secrets_are_written")
    tls_client(gateway, "a").close()
    gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    tls_client(gateway, "a").close()
    assert not log.exists()


# ---- the control socket and the lock

def test_reload_says_that_no_gateway_runs(folder):
    (folder / "data").mkdir()
    for args in (["-d", "nowhere"], ["-d", "data"]):
        result = subprocess.run([BINARY, "reload", *args], cwd=folder, capture_output=True, text=True, timeout=20)
        assert result.returncode == 1 and result.stdout == ""
        assert re.match(r"no gateway runs on data_dir '.*'; -c FILE or -d DIR say which one is meant$", result.stderr)


def test_a_second_gateway_on_the_same_data_dir_is_refused(start, served):
    first = start(**served.options())
    config = first.config_file.read_text()
    second = start(ready=False, config=config)
    assert second.process.wait(20) == 1
    assert f"another gateway (process {first.pid}) runs on '" in second.events("start_failed")[0]["error"]
    assert reload(first).returncode == 0
    first.process.kill()
    first.process.wait()
    result = reload(first)
    assert result.returncode == 1 and "no gateway runs on data_dir" in result.stderr
    third = start(config=config)  # over the socket that is left there
    assert reload(third).returncode == 0
    third.stop()
    assert not (third.folder.parent / "gateway-0/data/control").exists()


def test_the_control_socket_is_for_root_and_the_owner(start, served):
    gateway = start(**served.options())
    path = gateway.folder / "data/control"
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_uid == os.geteuid()
    if not AS_ROOT:
        return
    path.chmod(0o666)
    path.parent.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    result = reload(gateway, "-d", str(path.parent), user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    assert result.returncode == 1, result
    assert gateway.wait_event("control_client_refused")["uid"] == str(nobody.pw_uid)
    assert not gateway.events("reloading")


@pytest.mark.skipif(not AS_ROOT, reason="needs two accounts")
def test_root_may_reload_the_gateway_of_another_account(start, served, folder):
    nobody = pwd.getpwnam("nobody")
    for path in (served.crt, served.key):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    program = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    data = folder / "data"
    data.mkdir()
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    gateway = start(program=program, config=f"""
workers = 1
data_dir = "{data}"
listener "secure" {{ bind = "127.0.0.1:0"  tls = "main" }}
{served.section()}
api {{ bind = "127.0.0.1:0" }}
""")
    result = reload(gateway)
    assert result.returncode == 0 and result.stderr == f"note: this gateway is run by uid {nobody.pw_uid}\n", result
    assert reload(gateway, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[]).returncode == 0


VERSION = int(re.search(r"#define IPC_VERSION +(\d+)", (ROOT / "gateway/ipc/ipc_message.h").read_text()).group(1))
MESSAGES = re.findall(r"^X\((\w+),", (ROOT / "gateway/ipc/ipc.def").read_text(), re.M)


class Control:
    """A client of the control socket that speaks its messages by itself."""

    def __init__(self, gateway):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(mqtt.PATIENCE)
        folder = os.open(gateway.folder / "data", os.O_PATH)
        try:
            wait_for(lambda: self.sock.connect_ex(f"/proc/self/fd/{folder}/control") == 0, "room in the backlog")
        finally:
            os.close(folder)

    def send(self, name, fields=b""):
        self.sock.send(struct.pack("=IH", 2 + len(fields), 1 + MESSAGES.index(name)) + fields)

    def greet(self, version=VERSION):
        self.send("HELLO", struct.pack("=HHIQQ", version, 0, 0, 0, 0))
        return self

    def ask(self):
        self.greet().send("RELOAD")
        return self

    def answer(self):
        """Whether it was done, and the text."""
        text = ""
        while True:
            data = self.sock.recv(2000)
            assert data, "closed without an answer"
            name = MESSAGES[struct.unpack_from("=H", data, 4)[0] - 1]
            if name == "RELOAD_DONE":
                assert self.sock.recv(100) == b""
                self.sock.close()
                return data[6] == 1, text
            assert name == "RELOAD_NOTE"
            text += data[8:].decode()

    def expect_dropped(self, data):
        """Sends something that is no request; the gateway closes."""
        self.sock.send(data)
        with contextlib.suppress(ConnectionResetError):
            assert self.sock.recv(100) == b""
        self.sock.close()


def test_nonsense_on_the_control_socket_disturbs_nobody(start, served):
    gateway = start(**served.options())
    for data in (b"x", b"\xff" * 5000, b"\x02\0\0\0\x01\0", b"\x02\0\0\0\xff\xff", os.urandom(200)):
        Control(gateway).expect_dropped(data)
    Control(gateway).expect_dropped(struct.pack("=IH", 2, 1 + MESSAGES.index("RELOAD")))  # without HELLO
    done, text = Control(gateway).greet(version=99).answer()
    assert not done and text == "this gateway is of another version; restart it\n"
    assert not gateway.events("reloading")
    silent = [Control(gateway) for _ in range(20)]
    assert reload(gateway).returncode == 0
    assert is_alive(gateway.pid)
    for client in silent:
        client.sock.close()
    assert reload(gateway).returncode == 0


def test_clients_of_the_control_socket_are_bounded(start, served):
    gateway = start(workers=2, **served.options())
    pid = gateway.processes()["hf-worker-0"]
    os.kill(pid, signal.SIGSTOP)
    clients = [Control(gateway).ask() for _ in range(8)]
    surplus = Control(gateway)
    with contextlib.suppress(ConnectionResetError):
        assert surplus.sock.recv(100) == b""
    os.kill(pid, signal.SIGCONT)
    assert all(client.answer()[0] for client in clients)


def test_a_long_name_of_the_data_directory_is_no_obstacle(start, served):
    gateway = start(**served.options())
    text = gateway.config_file.read_text()
    gateway.stop()
    deep = gateway.folder / ("d" * 100)
    deep.mkdir(mode=0o755)
    again = start(config=text.replace(f'"{gateway.folder}/data"', f'"{deep}/data"'))
    assert reload(again).returncode == 0


# ---- the service manager

def test_the_service_manager_is_told(start, served, folder):
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        os.chmod(path, 0o777)
        manager.settimeout(mqtt.PATIENCE)
        gateway = start(**served.options(env={"NOTIFY_SOCKET": path}))
        assert manager.recv(4096).startswith(b"READY=1")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert reload(gateway).returncode == 0
        told = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.recv(4096))
        assert before <= int(told.group(1)) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert manager.recv(4096) == b"READY=1"
        served.crt.write_text("garbage")
        assert reload(gateway).returncode == 1
        assert manager.recv(4096).startswith(b"RELOADING=1")
        assert manager.recv(4096) == b"READY=1"
