"""openssl s_client and s_time against the real binary: suites, names, staples, client certificates, resumption, key
updates, renegotiation and fragments."""

import random
import re
import subprocess

import pytest

import mqtt_raw as mqtt
import tls_raw as tls
from conftest import tls_section, wait_for

SUITES = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] + \
    [f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA")
     for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")]
VERSIONS = ["tls1_2", "tls1_3"]
UNPARKED = "holdfast_tls_connections_unparked"


def s_client(address, *options):
    host, port = address
    return ["openssl", "s_client", "-connect", f"{host}:{port}", *options]


def dialog(gateway, *options, client_id="", version=mqtt.V5, address=None):
    """An MQTT client that speaks through s_client, which still obeys its letters K, k, R."""
    program = tls.Program(*s_client(address or gateway.secure, "-brief", "-no_ign_eof", *options))
    return tls.Client(program, client_id, version)


def report(gateway, *options, address=None):
    """What s_client prints about one handshake, without any application data."""
    result = subprocess.run(s_client(address or gateway.secure, *map(str, options)), stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=20)
    return result.stdout + result.stderr


def suite_options(suite):
    if suite.startswith("TLS_"):
        return ["-tls1_3", "-ciphersuites", suite]
    return ["-tls1_2", "-cipher", suite]


# ---- versions and suites

@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_is_spoken_and_parked(tls_gateway, certs, suite):
    with dialog(tls_gateway, "-CAfile", certs / "ca.pem", "-verify_return_error", *suite_options(suite),
                client_id="c") as client:
        client.subscribe("t")
        client.publish("t", b"\0\xff" * 5000)
        client.expect_publish(b"\0\xff" * 5000)
        tls_gateway.publish("clients/c", "hello")
        client.expect_publish("hello")
        client.sock.wait_said(f"Ciphersuite: {suite}\n")
        client.sock.wait_said("Verification: OK\n")
        assert tls_gateway.metric("holdfast_connections_parked") == 1
        assert tls_gateway.metric(UNPARKED) == 0
        client.send(mqtt.disconnect())
        assert client.sock.finish() == b"" and client.sock.process.returncode == 0
    version = "v13" if suite.startswith("TLS_") else "v12"
    assert tls_gateway.metric(f"holdfast_tls_handshakes_{version}_total") == 1
    tls_gateway.wait_event("client_closed", client="c", reason="client_disconnect")


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256",
                                   "ECDHE-ECDSA-AES128-CCM"])
def test_a_suite_that_cannot_be_parked_works_and_is_counted(start_tls, suite):
    gateway = start_tls(f'ciphers = "{suite}"')
    with dialog(gateway, *suite_options(suite), client_id="c") as client:
        client.sock.wait_said(f"Ciphersuite: {suite}\n")
        gateway.publish("clients/c", "hello")
        client.expect_publish("hello")
        assert gateway.metric(UNPARKED) == 1
    assert gateway.metric("holdfast_tls_unparked_suite_total") == 1
    gateway.wait_metric(UNPARKED, 0)


def test_the_preferred_suites_are_those_with_aes_128(tls_gateway):
    assert "New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256" in report(tls_gateway)
    assert "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in report(tls_gateway, "-tls1_2")
    said = report(tls_gateway, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in said, "the server's order counts"
    # A client that puts ChaCha20 first has no AES in its CPU.
    said = report(tls_gateway, "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305" in said


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_versions_are_refused(tls_gateway, version):
    said = report(tls_gateway, f"-{version}", "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in said and "Cipher is (NONE)" in said
    tls_gateway.wait_event("tls_handshake_failed", error="unsupported protocol")


def test_the_lowest_version_may_be_raised(start_tls):
    gateway = start_tls("min_version = 1.3")
    assert "alert protocol version" in report(gateway, "-tls1_2")
    assert "New, TLSv1.3" in report(gateway)


def test_dhe_suites_work_when_they_are_asked_for(start_tls):
    suite = "DHE-RSA-AES128-GCM-SHA256"
    gateway = start_tls(f'ciphers = "ECDHE-RSA-AES128-GCM-SHA256:{suite}"')
    assert f"Cipher is {suite}" in report(gateway, "-tls1_2", "-cipher", suite)


@pytest.mark.parametrize("cipher", ["NULL", "aNULL", "kRSA", "SHA1", "SHA256"])
def test_weak_suites_are_refused(tls_gateway, cipher):
    said = report(tls_gateway, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert "alert handshake failure" in said and "Cipher is (NONE)" in said, said
    tls_gateway.wait_event("tls_handshake_failed", error="no shared cipher")


# ---- ALPN, SNI, certificates, staples

def test_alpn(tls_gateway):
    assert "ALPN protocol: mqtt\n" in report(tls_gateway, "-alpn", "mqtt")
    assert "ALPN protocol: mqtt\n" in report(tls_gateway, "-alpn", "h2,mqtt", "-tls1_2")
    assert "No ALPN negotiated\n" in report(tls_gateway)
    assert "alert no application protocol" in report(tls_gateway, "-alpn", "h2,http/1.1")
    tls_gateway.wait_event("tls_handshake_failed", error="no application protocol")


def test_alpn_may_be_ignored_or_have_a_preference(start_tls):
    assert "No ALPN negotiated\n" in report(start_tls('alpn = ""'), "-alpn", "h2")
    assert "ALPN protocol: b\n" in report(start_tls('alpn = {"b", "a"}'), "-alpn", "a,b")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name,subject", [("sni.test", "sni.test"), ("SNI.Test", "sni.test"), (None, "localhost"),
                                          ("a.wild.test", "wild.test"), ("a.b.wild.test", "localhost"),
                                          ("nobody.test", "localhost"), ("chain.test", "chain.test")])
def test_the_name_that_is_asked_for_chooses_the_certificate(start_tls, name, subject, version):
    gateway = start_tls(serve=("ecdsa", "sni", "wildcard", "chain"))
    said = report(gateway, f"-{version}", *(["-servername", name] if name else ["-noservername"]))
    assert re.search(r"^subject=.*CN = (\S+)", said, re.M).group(1) == subject


def test_an_intermediate_certificate_is_sent(start_tls, certs):
    gateway = start_tls(serve=("chain",))
    said = report(gateway, "-CAfile", certs / "ca.pem", "-verify_hostname", "chain.test", "-servername", "chain.test")
    assert "Verify return code: 0 (ok)" in said and "\n 1 s:CN = Holdfast test middle-ca" in said


@pytest.mark.parametrize("serve", [("ecdsa", "rsa"), ("rsa", "ecdsa")])
def test_the_clients_algorithms_choose_the_kind_of_key(start_tls, serve):
    gateway = start_tls(serve=serve)
    for version in VERSIONS:
        assert "Peer signature type: ECDSA" in report(gateway, f"-{version}", "-sigalgs", "ECDSA+SHA256")
        assert "Peer signature type: RSA-PSS" in report(gateway, f"-{version}", "-sigalgs", "RSA-PSS+SHA256")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_ocsp_response_is_stapled_for_who_asks(start_tls, certs, version):
    gateway = start_tls(f'ocsp = {{"{certs}/ocsp.der", ""}}')
    said = report(gateway, f"-{version}", "-status")
    assert "OCSP Response Status: successful" in said and "Cert Status: good" in said
    assert "OCSP" not in report(gateway, f"-{version}")
    said = report(gateway, f"-{version}", "-status", "-sigalgs", "RSA-PSS+SHA256")
    assert "OCSP response: no response sent" in said, "the RSA certificate has none"


# ---- client certificates

CLIENTS = {None: "none", "client": "good", "client-expired": "certificate has expired",
           "client-revoked": "certificate revoked", "client-other": "unable to get local issuer certificate"}
SERVED = {"off": set(CLIENTS), "optional": {None, "client"}, "required": {"client"}}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", SERVED)
def test_client_certificates(start_tls, certs, mode, version):
    asked = "" if mode == "off" else f'ca = "{certs}/ca.pem"  crl = "{certs}/crl.pem"'
    gateway = start_tls(f"client_certificate = {mode}  {asked}")
    for name in CLIENTS:
        own = ["-cert", certs / f"{name}.pem", "-key", certs / f"{name}.key"] if name else []
        try:
            dialog(gateway, f"-{version}", *own).close()
            served = True
        except (mqtt.Closed, BrokenPipeError):
            served = False
        assert served == (name in SERVED[mode]), name
    failed = set(CLIENTS) - SERVED[mode]
    if failed:
        gateway.wait_event("tls_handshake_failed", count=len(failed))
        wrong = {event["certificate"] for event in gateway.events("tls_handshake_failed")}
        assert {"certificate revoked", "certificate has expired"} <= wrong, wrong
        assert {event["subject"] for event in gateway.events("tls_handshake_failed")} == {name or "-" for name in failed}
    gateway.wait_metric("holdfast_tls_handshakes_failed_total", len(failed))
    said = report(gateway, f"-{version}")
    assert ("No client certificate CA names sent" in said) == (mode == "off")
    assert ("Holdfast test ca" in said.partition("Acceptable client certificate CA names")[2]) == (mode != "off")


# ---- resumption

def resumed(said):
    return re.search(r"^(New|Reused), (TLSv1\.\d)", said, re.M).group(1) == "Reused"


def ticket(gateway, path, version):
    """Makes s_client keep the session of a full handshake."""
    with dialog(gateway, f"-{version}", "-sess_out", path) as client:
        client.ping()
        client.send(mqtt.disconnect())
        client.sock.finish()
    assert path.exists()
    return path


def per_worker(gateway, name):
    return [n for sample, n in gateway.metrics().items() if sample.startswith(f'holdfast_{name}{{process="worker/')]


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_are_resumed_by_all_workers_also_a_new_one(start_tls, folder, version):
    gateway = start_tls(workers=2)
    path = ticket(gateway, folder / "session", version)

    def resume_in_both():
        for tries in range(60):
            assert resumed(report(gateway, f"-{version}", "-sess_in", path))
            if tries > 3 and all(per_worker(gateway, "tls_handshakes_resumed_total")):
                return
        raise AssertionError("a worker got no connection")

    resume_in_both()
    for worker in ("hf-worker-0", "hf-worker-1"):
        gateway.wait_successor(worker, gateway.kill_child(worker))
    resume_in_both()
    assert gateway.metric(UNPARKED) == 0


def test_s_client_reconnects_with_its_session(tls_gateway):
    said = report(tls_gateway, "-tls1_2", "-reconnect")
    assert (said.count("New, TLSv1.2"), said.count("Reused, TLSv1.2")) == (1, 5), said
    assert tls_gateway.metric("holdfast_tls_handshakes_resumed_total") == 5


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_session_carries_messages(tls_gateway, folder, version):
    path = ticket(tls_gateway, folder / "session", version)
    for _ in range(2):
        with dialog(tls_gateway, f"-{version}", "-sess_in", path, client_id="c") as client:
            client.subscribe("t")
            client.publish("t", "x" * 40000)
            client.expect_publish("x" * 40000)
    assert tls_gateway.metric("holdfast_tls_handshakes_resumed_total") == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_tickets_may_be_switched_off(start_tls, folder, version):
    gateway = start_tls("session_tickets = false")
    with dialog(gateway, f"-{version}", "-sess_out", folder / "session") as client:
        client.ping()
    if version == "tls1_3":
        assert not (folder / "session").exists()
    elif (folder / "session").exists():
        assert not resumed(report(gateway, f"-{version}", "-sess_in", folder / "session"))
    assert gateway.metric("holdfast_tls_handshakes_resumed_total") == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_is_good_in_its_section_only(start_tls, certs, folder, version):
    more = 'listener "other" { bind = "127.0.0.1:0"  tls = "second" }\n' + tls_section(certs, name="second")
    gateway = start_tls(more=more)
    path = ticket(gateway, folder / "session", version)
    assert resumed(report(gateway, f"-{version}", "-sess_in", path))
    assert not resumed(report(gateway, f"-{version}", "-sess_in", path, address=gateway.listening["other"]))


def test_a_damaged_ticket_means_a_full_handshake(tls_gateway, folder):
    for version in VERSIONS:
        path = ticket(tls_gateway, folder / version, version)
        session, words = (subprocess.run(["openssl", "sess_id", "-in", path, *form], check=True, capture_output=True)
                          .stdout for form in (["-outform", "DER"], ["-noout", "-text"]))
        rows = re.findall(r"^    [0-9a-f]{4} - ((?:[0-9a-f]{2}[ -])+)", words.decode(), re.M)
        sealed = bytes.fromhex("".join(rows).replace("-", " "))
        start = session.index(sealed)
        for spot in (0, 20, len(sealed) // 2, len(sealed) - 1):  # name of the key, IV, content, MAC
            damaged = bytearray(session)
            damaged[start + spot] ^= 1
            subprocess.run(["openssl", "sess_id", "-inform", "DER", "-out", folder / "bad"], input=damaged, check=True,
                           capture_output=True)
            assert not resumed(report(tls_gateway, f"-{version}", "-sess_in", folder / "bad")), spot
        assert resumed(report(tls_gateway, f"-{version}", "-sess_in", path))


@pytest.mark.parametrize("version,kind", [("tls1_3", "-new"), ("tls1_2", "-reuse")])
def test_s_time_connects_as_fast_as_it_can(start_tls, version, kind):
    gateway = start_tls(workers=2)
    host, port = gateway.secure

    result = subprocess.run(["openssl", "s_time", "-connect", f"{host}:{port}", f"-{version}", kind, "-time", "1"],
                            capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result
    count = int(re.search(r"^(\d+) connections in \d+ real seconds", result.stdout, re.M).group(1))
    resumed_ones = gateway.metric("holdfast_tls_handshakes_resumed_total")
    assert count > 20 and (resumed_ones == 0 if kind == "-new" else resumed_ones > 20)
    assert gateway.metric("holdfast_tls_handshakes_failed_total") == 0
    gateway.wait_metric("holdfast_connections", 0)
    assert not gateway.events("process_died")


# ---- key updates, renegotiation, fragments

@pytest.mark.parametrize("suite", SUITES[:3])
@pytest.mark.parametrize("letters", ["K", "k", "KkkKkK"])
def test_keys_are_updated_in_the_middle_of_traffic(tls_gateway, suite, letters):
    """K asks the gateway to update its keys, too; k does not."""
    with dialog(tls_gateway, *suite_options(suite), client_id="c") as client:
        client.subscribe("t")
        for count, letter in enumerate(letters, 1):
            client.publish("t", f"before {letter}")
            client.expect_publish(f"before {letter}")
            client.send(letter.encode() + b"\n")
            client.sock.wait_said("KEYUPDATE", count)
            client.publish("t", f"after {letter}" * 3000)
            client.expect_publish(f"after {letter}" * 3000)
            tls_gateway.publish("clients/c", f"pushed after {letter}")
            client.expect_publish(f"pushed after {letter}")
        assert client.is_open()
        assert tls_gateway.metric("holdfast_connections_parked") == 1
    assert tls_gateway.metric("holdfast_tls_key_updates_total") == len(letters) + letters.count("K")


@pytest.mark.parametrize("parking", ["true", "false"])
def test_renegotiation_is_declined_without_harm(start_tls, parking):
    """OpenSSL's client gives up when it is declined; the gateway would have gone on."""
    gateway = start_tls(f"parking = {parking}")
    with tls.client(gateway, "witness") as witness, dialog(gateway, "-tls1_2", client_id="c") as client:
        client.send(b"R\n")
        client.sock.wait_said("RENEGOTIATING")
        client.expect_closed()
        client.sock.finish()
        assert b"no renegotiation" in client.sock.said, client.sock.said
        witness.ping()
    gateway.wait_event("client_closed", client="c", reason="tls_alert_received")
    gateway.wait_event("client_closed", client="witness", reason="peer_closed")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("limit", [512, 1024, 2048, 4096])
def test_short_fragments_are_kept_to_in_both_directions(tls_gateway, version, limit):
    """RFC 6066 section 4: what a small device asks for."""
    options = [f"-{version}", "-maxfraglen", str(limit)]
    with tls.Relay(tls_gateway.secure) as relay, \
            dialog(tls_gateway, *options, client_id="c", address=relay.address) as client:
        client.subscribe("t")
        for size in (limit - 20, limit, 20 * limit + 7):
            payload = random.Random(size).randbytes(size).hex()[:size]
            client.publish("t", payload)
            client.expect_publish(payload)
            tls_gateway.publish("clients/c", payload)
            client.expect_publish(payload)
        overhead = 1 + 16 if version == "tls1_3" else 8 + 16
        for stream in (relay.up, relay.down):
            sizes = [length for kind, length in tls.records(stream) if kind == tls.DATA]
            assert len(sizes) > 20 and max(sizes) <= limit + overhead
        assert tls_gateway.metric(UNPARKED) == 0


@pytest.mark.parametrize("size", [512, 1500, 4096])
@pytest.mark.parametrize("version", VERSIONS)
def test_short_records_of_the_client_are_taken(tls_gateway, version, size):
    with dialog(tls_gateway, f"-{version}", "-max_send_frag", str(size), client_id="c") as client:
        client.subscribe("t")
        client.publish("t", "z" * 50_000)
        client.expect_publish("z" * 50_000)


@pytest.mark.parametrize("padding", ["1", "500", "16384"])
def test_padded_records_are_taken(tls_gateway, padding):
    with dialog(tls_gateway, "-tls1_3", "-record_padding", padding, client_id="c") as client:
        client.subscribe("t")
        client.publish("t", "z" * 50_000)
        client.expect_publish("z" * 50_000)
        wait_for(lambda: tls_gateway.metric("holdfast_connections_parked") == 1, "parked")
