"""The load generator, small: every scenario against the gateway and the floor. Counts are asserted, times never."""

import json
import os
import pathlib
import socket
import subprocess

import pytest

from conftest import wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = os.environ.get("HOLDFAST_BENCH", str(ROOT / "build/test/holdfast-bench"))
HOLDFAST = os.environ.get("HOLDFAST", str(ROOT / "build/test/holdfast"))
SCENARIOS = ROOT / "gateway/tools/bench/scenarios"
GATEWAY_TLS = f"{HOLDFAST} run -c {{file:{ROOT}/tests/bench/holdfast-tls.conf}}"
UNPARKED_TLS = f"{HOLDFAST} run -c {{file:{ROOT}/tests/bench/holdfast-tls-unparked.conf}}"
GATEWAY = f"holdfast=cmd:{HOLDFAST} run -c {{file:{ROOT}/tests/bench/holdfast.conf}}"
CLIENTS = 200
BROADCASTS = 5


def bench(*args, status=0, timeout=180):
    """Runs holdfast-bench and returns what it printed."""
    done = subprocess.run([BENCH, *args], capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def scenario(tmp_path, name, *options, targets=("floor", GATEWAY)):
    """Runs one of the installed scenarios with few clients; returns {target: {metric: value}}."""
    report = tmp_path / "report.json"
    args = ["run", str(SCENARIOS / f"{name}.conf"), "--json", str(report)]
    for option in (f"connections={CLIENTS}", f"broadcasts={BROADCASTS}", "warmup=1", "settle_ms=100", *options):
        args += ["--set", option]
    for target in targets:
        args += ["--target", target]
    bench(*args)
    result = json.loads(report.read_text())["scenarios"][0]
    return {t["name"]: {k: m["median"] for k, m in t["metrics"].items()} for t in result["targets"]}


def is_open(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def healthy(metrics, connected=CLIENTS):
    """Nothing was lost, refused, missed, repeated, or received without having been sent."""
    assert metrics["connected"] == connected
    for key in ("refused", "lost", "gaps", "duplicates", "foreign"):
        assert metrics[key] == 0, key


def test_connect_opens_and_subscribes_all(tmp_path):
    for metrics in scenario(tmp_path, "connect").values():
        healthy(metrics)
        assert metrics["connect.cpu"] > 0
        assert metrics["subscribe.cpu"] > 0


def test_connect_at_a_given_rate_from_several_processes(tmp_path):
    for metrics in scenario(tmp_path, "connect", "connect_rate=1000", "per_process=70").values():
        healthy(metrics)
        assert metrics["connect.rate"] <= 1000 * 1.5


def test_idle_reads_memory_and_subscribes_own_topics(tmp_path):
    for metrics in scenario(tmp_path, "idle").values():
        healthy(metrics)
        assert metrics["idle.wanted"] == metrics["idle.received"] == CLIENTS * BROADCASTS
        assert metrics["idle.answered"] == CLIENTS
        assert metrics["own_topic.subscribed"] == CLIENTS
        assert metrics["idle.user"] is not None and metrics["later.user"] is not None


@pytest.mark.parametrize("version", [4, 5])
def test_broadcast_reaches_everybody(tmp_path, version):
    for metrics in scenario(tmp_path, "broadcast", f"version={version}",
                            targets=("floor", GATEWAY) if version == 4 else (GATEWAY,)).values():
        healthy(metrics)
        for size in (64, 1024):
            assert metrics[f"broadcast.{size}.wanted"] == CLIENTS * BROADCASTS
            assert metrics[f"broadcast.{size}.received"] == CLIENTS * BROADCASTS
            assert metrics[f"broadcast.{size}.latency.max"] >= metrics[f"broadcast.{size}.latency.p50"] > 0


def test_heartbeats_are_all_answered(tmp_path):
    for metrics in scenario(tmp_path, "heartbeat", "heartbeat_rate=2000").values():
        healthy(metrics)
        assert metrics["heartbeat.wanted"] == metrics["heartbeat.answered"] == 3 * CLIENTS


def test_slow_clients_do_not_take_anything_from_the_others(tmp_path):
    slow = 20
    metrics = scenario(tmp_path, "slow", f"slow={slow}", "broadcasts=40", targets=(GATEWAY,))["holdfast"]
    healthy(metrics, CLIENTS - slow)
    assert metrics["slow.wanted"] == metrics["slow.received"] == 40 * (CLIENTS - slow)
    assert metrics["slow.complete"] == CLIENTS - slow
    assert metrics["slow.incomplete"] == 0


def test_the_kinds_run_over_tls(tmp_path):
    """Every kind that the floors can do, with either version and kind of key, several processes and few places."""
    floors = ("floor-tls,tls13", "old=floor-tls,tls12,rsa")
    for name, options in (("connect", ("handshakes=3", "per_process=70")), ("idle", ()),
                          ("broadcast", ("payload_2=40000",)), ("heartbeat", ("heartbeat_rate=2000",)),
                          ("slow", ("slow=5",)), ("storm", ("storm=150", "tickets=1"))):
        for metrics in scenario(tmp_path, name, *options, targets=floors).values():
            healthy(metrics, CLIENTS - 5 if name == "slow" else CLIENTS)
            for key in metrics:
                if key.endswith(".wanted"):
                    other = key.replace("wanted", "answered" if name == "heartbeat" else "received")
                    assert metrics[key] == metrics[other] > 0, key


@pytest.mark.parametrize("version", ["tls13", "tls12"])
def test_handshakes_are_counted_full_and_resumed(tmp_path, version):
    told = scenario(tmp_path, "handshake", targets=("floor", f"floor-tls,{version}"))
    metrics = told["floor-tls"]
    for kind in ("full", "resumed"):
        assert metrics[f"handshake.{kind}.done"] == CLIENTS
        assert metrics[f"handshake.{kind}.failed"] == 0
        assert metrics[f"handshake.{kind}.cpu"] > 0
        assert metrics[f"handshake.{kind}.latency.max"] >= metrics[f"handshake.{kind}.latency.p50"] > 0
    assert metrics["handshake.resumed.offered"] == CLIENTS
    assert metrics["handshake.resumed.refused"] == 0
    assert metrics["handshake.resumed.share"] == 100
    assert told["floor"]["handshake.full.done"] == CLIENTS
    assert told["floor"]["handshake.resumed.done"] is None


def test_a_storm_apart_tells_the_heartbeats_of_the_others(tmp_path):
    metrics = scenario(tmp_path, "storm-apart", "storm=150", "keepalive_s=1", targets=("floor-tls",))["floor-tls"]
    healthy(metrics)
    assert metrics["storm.back"] == 150
    assert metrics["calm.heartbeat.latency.p99"] > 0
    assert metrics["heartbeat.sent"] - metrics["heartbeat.answered"] in range(0, 51)


def test_a_certificate_of_ones_own_is_verified_when_there_is_a_ca(tmp_path):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "2", "-subj", "/CN=here", "-addext", "subjectAltName=DNS:here.example", "-keyout", key, "-out",
                    certificate], check=True, capture_output=True)
    args = ["run", str(SCENARIOS / "connect.conf"), "--connections", "5", "--certificate", certificate, "--key", key]
    bench(*args, "--target", f"floor-tls,ca={certificate},name=here.example")
    for wrong in (f"floor-tls,ca={certificate},name=there.example", f"floor-tls,rsa,ca={certificate}"):
        assert "certificate verify failed" in bench(*args, "--target", wrong, status=1).stderr
    bench(*args, "--target", f"other=cmd,tls13:{BENCH} floor-tls --port {{tls_port}} --certificate {{certificate}} "
                             "--key {key}")


def test_the_reports_compare_with_the_tls_floor(tmp_path):
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    other = f"{BENCH} floor-tls --port {{tls_port}} --certificate {{certificate}} --key {{key}}"
    done = bench("run", str(SCENARIOS / "handshake.conf"), "--connections", "40", "--json", str(report), "--html",
                 str(page), "--target", "floor", "--target", "floor-tls", "--target", f"new=cmd,tls13:{other}",
                 "--target", f"old=cmd,tls12:{other}")
    targets = {t["name"]: t["metrics"]["handshake.full.cpu"]
               for t in json.loads(report.read_text())["scenarios"][0]["targets"]}
    assert targets["new"]["ratio"] > 1 and targets["new"]["ratio_tls"] > 0
    assert targets["old"]["ratio"] > 1 and targets["old"]["ratio_tls"] is None
    assert "TLSv1.3 TLS_AES_128_GCM_SHA256, certificate with 256 bit EC key" in done.stdout
    assert " x floor-tls" in page.read_text()


@pytest.mark.parametrize("command", [GATEWAY_TLS, UNPARKED_TLS], ids=["parked", "unparked"])
@pytest.mark.parametrize("version", ["tls13", "tls12"])
def test_the_gateway_over_tls(tmp_path, command, version):
    target = f"holdfast=cmd,{version}:{command}"
    metrics = scenario(tmp_path, "broadcast", "payload_2=60000", targets=(target,))["holdfast"]
    healthy(metrics)
    for size in (64, 60000):
        assert metrics[f"broadcast.{size}.wanted"] == metrics[f"broadcast.{size}.received"] == CLIENTS * BROADCASTS
    metrics = scenario(tmp_path, "handshake", targets=(target,))["holdfast"]
    assert metrics["handshake.full.done"] == metrics["handshake.resumed.done"] == CLIENTS
    assert metrics["handshake.resumed.refused"] == 0


def test_a_running_server_is_watched_by_its_pid(tmp_path):
    """Given as address and pid, a server is measured and left running."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([BENCH, "floor", "--port", str(port)])
    try:
        wait_for(lambda: is_open(port), "the floor")
        metrics = scenario(tmp_path, "broadcast", targets=(f"mine=127.0.0.1:{port},pid={server.pid}",))["mine"]
        healthy(metrics)
        assert metrics["broadcast.64.cpu"] > 0
        assert server.poll() is None
    finally:
        server.terminate()
        assert server.wait(10) == 0


def test_figures_are_judged_and_decide_the_exit_status(tmp_path):
    file = tmp_path / "mine.conf"
    file.write_text('kind = "connect"\nconnections = 20\n'
                    'figure "possible" { metric = "connected" min = 20 }\n'
                    'figure "impossible" { metric = "connected" max = 1 }\n'
                    'figure "unheard of" { metric = "nothing" max = 1 }\n')
    with_floor = ("--target", "floor", "--target", f"other=cmd:{BENCH} floor --port {{port}}")
    done = bench("run", str(file), "--strict", *with_floor, status=1)
    assert "met      other, possible" in done.stdout
    assert "NOT MET  other, impossible" in done.stdout
    assert "unknown  other, unheard of" in done.stdout
    bench("run", str(file), *with_floor)


def test_a_wrong_line_is_reported_with_file_and_line(tmp_path):
    file = tmp_path / "wrong.conf"
    file.write_text('kind = "connect"\nconections = 20\n')
    done = bench("run", str(file), status=2)
    assert "wrong.conf:2" in done.stderr and "conections" in done.stderr
    file.write_text('kind = "connect"\nconnections = 0\n')
    done = bench("run", str(file), status=2)
    assert "wrong.conf:2" in done.stderr and "out of range" in done.stderr
    file.write_text('kind = "connect"\nfigure "f" { metric = "lost" }\n')
    assert "wrong.conf:2" in bench("run", str(file), status=2).stderr
    file.write_text('kind = "dance"\n')
    assert "dance" in bench("run", str(file), status=2).stderr


def test_a_server_that_does_not_start_is_reported(tmp_path):
    done = bench("run", str(SCENARIOS / "connect.conf"), "--target", "broken=cmd:echo this is why; exit 3", status=1)
    assert "this is why" in done.stderr


def test_direct_messages_arrive_at_their_client_only(tmp_path):
    metrics = scenario(tmp_path, "direct", "private_rate=500", "duration_s=2", targets=(GATEWAY,))["holdfast"]
    healthy(metrics)
    assert metrics["push.private"] > 500
    assert metrics["push.wanted"] == metrics["push.received"] == metrics["push.private"]
    assert metrics["push.complete"] == CLIENTS
    assert metrics["push.missing"] == metrics["push.excess"] == 0


def test_churn_loses_nothing_that_had_to_arrive(tmp_path):
    metrics = scenario(tmp_path, "churn", "churn_rate=20000", "away_ms=300", "duration_s=4", "announce_every_s=1",
                       targets=(GATEWAY,))["holdfast"]
    healthy(metrics)
    assert metrics["push.left"] == metrics["push.returned"] > 10
    assert metrics["push.complete"] == CLIENTS
    assert metrics["push.wanted"] == metrics["push.received"] > 0


def test_halfopen_clients_are_noticed_and_only_those(tmp_path):
    metrics = scenario(tmp_path, "halfopen", "keepalive_s=2", "silent=20", "duration_s=4",
                       targets=(GATEWAY,))["holdfast"]
    healthy(metrics, CLIENTS - 20)
    assert metrics["timeout.missed"] == metrics["timeout.early"] == metrics["timeout.wrong"] == 0
    assert metrics["timeout.right"] + metrics["timeout.late"] == 20


@pytest.mark.parametrize("jitter", [0, 500])
def test_storm_everybody_comes_back(tmp_path, jitter):
    for metrics in scenario(tmp_path, "storm", "storm=150", f"jitter_ms={jitter}").values():
        healthy(metrics)
        assert metrics["storm.time"] is not None
        assert metrics["storm.wanted"] == metrics["storm.received"] == CLIENTS


def test_push_service_delivers_everything(tmp_path):
    metrics = scenario(tmp_path, "push", "duration_s=5", "keepalive_s=2", "keepalive_max_s=3", "silent=5", "slow=5",
                       "announce_every_s=1", "group_rate=20000", "groups=20", "away_ms=300",
                       targets=(GATEWAY,))["holdfast"]
    healthy(metrics, CLIENTS - 5)
    assert metrics["push.missing"] == metrics["push.excess"] == metrics["push.incomplete"] == 0
    assert metrics["push.complete"] == CLIENTS - 5
    assert metrics["push.wanted"] == metrics["push.received"] > 0
    assert metrics["timeout.missed"] == metrics["timeout.early"] == metrics["timeout.wrong"] == 0


def charged(metrics, state):
    """Bytes that the kernel charges per connection to the server's and the client's socket."""
    for end in ("server", "client"):
        parts = sum(metrics[f"buffers.{state}.{end}.{part}"] for part in ("receive", "send", "reserved"))
        assert metrics[f"buffers.{state}.{end}.charged"] == pytest.approx(parts)
    return metrics[f"buffers.{state}.server.charged"], metrics[f"buffers.{state}.client.charged"]


def assert_four_states(metrics):
    """A socket holds nothing when idle and after a push that was read; an unread push is charged to the client's end."""
    healthy(metrics)
    assert charged(metrics, "idle") == charged(metrics, "acked") == (0, 0)
    assert metrics["buffers.unread.client.receive"] > 1024
    assert charged(metrics, "unread")[0] == 0
    assert charged(metrics, "full")[1] > charged(metrics, "unread")[1] >= 4096
    assert metrics["buffers.full.socket"] > metrics["buffers.idle.socket"]


def test_buffers_are_reported_for_four_states(tmp_path):
    assert_four_states(scenario(tmp_path, "buffers", "broadcasts=10", targets=(GATEWAY,))["holdfast"])


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own takes root")
def test_buffers_tuned_is_measured_in_a_network_namespace_of_its_own(tmp_path):
    rmem = pathlib.Path("/proc/sys/net/ipv4/tcp_rmem")
    before = rmem.read_text()
    metrics = scenario(tmp_path, "buffers-tuned", "broadcasts=10", targets=(GATEWAY,))["holdfast"]
    assert_four_states(metrics)
    assert metrics["buffers.full.client.receive"] < 2 * 65536
    assert rmem.read_text() == before


def test_hold_tells_time_rate_processes_and_latency(tmp_path):
    metrics = scenario(tmp_path, "hold", "broadcasts=3", "heartbeat_rate=2000", targets=(GATEWAY,))["holdfast"]
    healthy(metrics)
    assert metrics["idle.wanted"] == metrics["idle.received"] == 3 * CLIENTS
    assert metrics["idle.answered"] == CLIENTS
    assert metrics["server.processes"] >= 2
    assert metrics["connect.rate"] > 0 and metrics["run.time"] > 0
    assert metrics["idle.broadcast.latency.max"] >= metrics["idle.broadcast.latency.p50"] > 0
    assert "own_topic.subscribed" not in metrics


@pytest.mark.parametrize("args", ["--help", "-h", "help", "run --help", "run -h", "floor --help", "floor-tls --help"])
def test_help_is_printed_on_request(args):
    done = bench(*args.split())
    assert done.stderr == ""
    wanted = ["--port"] if args.startswith("floor") else [
        "--target", "--set", "--connections", "--repeat", "--json", "--html", "--command", "--certificate", "--key",
        "--strict"]
    for option in wanted:
        assert option in done.stdout


def test_version_is_printed():
    assert bench("--version").stdout == bench("version").stdout
    assert bench("--version").stdout.startswith("holdfast-bench ")


def test_wrong_usage_is_refused_with_a_word_on_standard_error():
    for args in ([], ["dance"], ["run"], ["run", "connect", "--repeat", "0"], ["floor"],
                 ["floor-tls", "--port", "1"], ["run", "connect", "--certificate", "x"], ["run", "connect", "--nothing"]):
        done = bench(*args, status=2)
        assert done.stdout == "" and done.stderr != ""


def test_the_report_names_the_command_that_it_is_told(tmp_path):
    """Without temporary paths: neither the call's own line nor the targets' commands."""
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    target = f"other=cmd:{BENCH} floor --port {{port}}"
    args = ["run", str(SCENARIOS / "connect.conf"), "--connections", "5", "--connections", "20", "--target", target,
            "--json", str(report), "--html", str(page)]
    bench(*args)
    told = json.loads(report.read_text())
    assert told["targets"] == [{"name": "other", "spec": target}]
    assert str(report) in told["command"]
    bench(*args, "--command", "tests/some/script.sh it's")
    told = json.loads(report.read_text())
    assert told["command"] == "tests/some/script.sh it's"
    assert told["targets"] == [{"name": "other"}]
    assert told["scenarios"][0]["options"]["connections"] == "20"
    for text in (report.read_text(), page.read_text()):
        assert str(tmp_path) not in text and BENCH not in text


def test_the_manual_and_the_list_of_options_have_every_option():
    listed = {line.split()[0] for line in bench("options").stdout.split("\n\n")[-1].splitlines()
              if line and not line.startswith(" ")}
    defined = {line.split("(")[1].split(",")[0] for line in
               (ROOT / "gateway/tools/bench/scenario.def").read_text().splitlines() if line.startswith("OPTION_")}
    manual = set((ROOT / "doc/holdfast-bench.1").read_text().split())
    assert defined == listed
    assert defined <= manual, defined - manual


def test_the_manual_names_every_installed_scenario():
    manual = set((ROOT / "doc/holdfast-bench.1").read_text().split())
    assert {file.stem for file in SCENARIOS.glob("*.conf")} <= manual


def test_the_html_report_is_complete_in_itself(tmp_path):
    page = tmp_path / "report.html"
    args = ["run", str(SCENARIOS / "idle.conf"), str(SCENARIOS / "broadcast.conf"), "--connections", "50", "--html",
            str(page), "--repeat", "2", "--target", "floor", "--target", f"a<b=cmd:{BENCH} floor --port {{port}}"]
    for option in ("broadcasts=2", "warmup=0", "settle_ms=50"):
        args += ["--set", option]
    bench(*args)
    text = page.read_text()
    assert text.count("<svg") == text.count("</svg>") >= 4
    assert "a&lt;b" in text and "a<b" not in text
    for outside in ("http:", "https:", "<script", "src="):
        assert outside not in text


def test_limits_are_checked_before_anything_starts(tmp_path):
    """A server elsewhere is reached from one address only: there are not ports enough for so many clients."""
    done = bench("run", str(SCENARIOS / "connect.conf"), "--connections", "200000",
                 "--target", "elsewhere=192.0.2.1:1883", status=2)
    assert "fix    ports" in done.stderr
    assert "now:  sysctl -w net.ipv4.ip_local_port_range" in done.stderr
    assert "not ready for 200000 clients" in done.stderr
