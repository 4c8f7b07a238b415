"""Supervisor, hub and workers: who survives what."""

import contextlib
import ctypes
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import threading
import time

import pytest

import mqtt_raw as mqtt
from conftest import BINARY, accepted_inode, children_of, is_alive, wait_for
from mqtt_raw import V311, V5

AS_ROOT = os.geteuid() == 0


def status_of(pid):
    """/proc/PID/status as a dict."""
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line)


# ---- start

def test_the_processes_can_be_told_apart_by_name(start):
    gateway = start(workers=3)
    assert sorted(gateway.processes()) == ["hf-hub", "hf-worker-0", "hf-worker-1", "hf-worker-2"]
    ready = gateway.events("ready")[0]
    assert (int(ready["pid"]), ready["workers"]) == (gateway.pid, "3")
    assert [e["listener"] for e in gateway.events("listening")] == ["clients", "api"]


def test_port_0_gives_all_workers_the_same_port(start):
    gateway = start(workers=4)
    listening = [line for line in open("/proc/net/tcp").readlines()[1:]
                 if line.split()[1].endswith(f":{gateway.mqtt[1]:04X}") and line.split()[3] == "0A"]
    assert len(listening) == 4


def test_several_listeners_and_ipv6(start):
    gateway = start(listeners='listener "one" { bind = "127.0.0.1:0" } listener "two" { bind = "[::1]:0" }', workers=2)
    four, six = gateway.listening["one"], gateway.listening["two"]
    with mqtt.Client(four, "four") as a, mqtt.Client(six, "six") as b:
        b.subscribe("t")
        a.publish("t", "over")
        b.expect_publish("over")
    assert gateway.wait_event("client_connected", client="six")["listener"] == "two"


def test_a_taken_port_is_reported_with_listener_address_and_advice(start):
    first = start()
    address = f"{first.mqtt[0]}:{first.mqtt[1]}"
    # Another gateway must not join the first one's port either, although both use SO_REUSEPORT.
    second = start(ready=False, listeners=f'listener "clients" {{ bind = "{address}" }}')
    assert second.process.wait(10) == 1
    error = second.wait_event("start_failed")["error"]
    assert f"listener clients: cannot bind {address}: Address already in use" in error
    assert "change 'bind'" in error
    with first.client("still") as client:
        client.ping()


def test_an_address_of_another_machine_is_reported(start):
    gateway = start(ready=False, listeners='listener "clients" { bind = "192.0.2.1:1883" }')
    assert gateway.process.wait(10) == 1
    assert "listener clients: cannot bind 192.0.2.1:1883" in gateway.wait_event("start_failed")["error"]


@pytest.mark.skipif(not AS_ROOT, reason="needs root to have privileges to drop")
def test_privileges_are_dropped_for_good(start):
    gateway = start(workers=2)
    account = pwd.getpwnam("nobody")
    assert status_of(gateway.pid)["Uid"].split() == ["0"] * 4
    children = gateway.processes()
    assert len(children) == 3
    for name, pid in children.items():
        status = status_of(pid)
        assert status["Uid"].split() == [str(account.pw_uid)] * 4, name
        assert status["Gid"].split() == [str(account.pw_gid)] * 4, name
        assert set(status["Groups"].split()) <= {str(account.pw_gid)}, name
        assert status["CapEff"].strip("0 ") == "" and status["CapPrm"].strip("0 ") == "", name
        assert status["NoNewPrivs"] == "1", name
    data = os.stat(gateway.folder / "data")
    assert (data.st_uid, data.st_mode & 0o777) == (account.pw_uid, 0o750)


@pytest.mark.skipif(not AS_ROOT, reason="needs root to choose an account")
def test_an_unknown_account_is_reported(start):
    gateway = start(ready=False, top='user = "no-such-account"')
    assert gateway.process.wait(10) == 1
    assert "no-such-account" in gateway.wait_event("start_failed")["error"]


def test_children_keep_only_their_own_descriptors(start):
    gateway = start(workers=3)

    def listening_inodes(pid):
        mine = set()
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                mine.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        return {line.split()[9] for line in open("/proc/net/tcp").readlines()[1:]
                if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in mine}

    owned = [listening_inodes(pid) for pid in gateway.processes().values()]
    assert all(len(inodes) == 1 for inodes in owned), owned
    assert len(set.union(*owned)) == 4


@pytest.mark.skipif(not AS_ROOT, reason="needs root to look into another process")
def test_accepted_sockets_have_the_listeners_options(start):
    gateway = start(listener='rcvbuf = "9000" sndbuf = "10000" notsent_lowat = "16K" user_timeout = "7s"')
    with gateway.client("c") as client:
        worker = gateway.worker_pids()[0]
        inode = accepted_inode(client)
        number = next(int(fd) for fd in os.listdir(f"/proc/{worker}/fd")
                      if os.readlink(f"/proc/{worker}/fd/{fd}") == f"socket:[{inode}]")
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.pidfd_open(worker)
        copy = libc.syscall(438, handle, number, 0)  # pidfd_getfd
        os.close(handle)
        assert copy >= 0, os.strerror(ctypes.get_errno())
        with socket.socket(fileno=copy) as found:
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 18000
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 20000
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert found.getsockopt(socket.IPPROTO_TCP, 25) == 16384  # TCP_NOTSENT_LOWAT
            assert found.getsockopt(socket.IPPROTO_TCP, 18) == 7000  # TCP_USER_TIMEOUT


def test_the_service_manager_is_notified(start, folder):
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        os.chmod(path, 0o777)
        manager.settimeout(10)
        gateway = start(env={"NOTIFY_SOCKET": path})
        assert manager.recv(4096).decode().startswith("READY=1\nSTATUS=")
        gateway.stop()
        assert manager.recv(4096).decode().startswith("STOPPING=1")


# ---- death of a worker

def test_clients_of_a_killed_worker_reconnect_within_a_second_and_the_others_do_not_blink(start):
    gateway = start(workers=2)
    lost = [gateway.client_on(0, f"lost-{i}") for i in range(5)]
    kept = [gateway.client_on(1, f"kept-{i}") for i in range(5)]
    for client in kept:
        client.subscribe("t")
    begin = time.monotonic()
    killed = gateway.kill_child("hf-worker-0")
    for client in lost:
        assert client.expect_closed() == []
    again = [gateway.client(f"lost-{i}", timeout=3) for i in range(5)]
    took = time.monotonic() - begin
    assert took < 1, took
    gateway.publish("t", "to the others")
    for client in kept:
        client.expect_publish("to the others")
        client.ping()
    gateway.wait_successor("hf-worker-0", killed)
    died = gateway.wait_event("process_died", child="worker/0")
    assert (died["signal"], died["restart_in_ms"], int(died["pid"])) == ("9", "0", killed)
    assert gateway.metric("holdfast_process_restarts_total") == 1
    # The new worker is a full member: it is reached by pushes and by the hub's registry.
    with gateway.client_on(0, "newcomer") as newcomer:
        gateway.publish("clients/newcomer", "welcome")
        newcomer.expect_publish("welcome")
    for client in again + kept:
        client.close()
    gateway.wait_metric("holdfast_sessions", 0)
    gateway.wait_metric("holdfast_registry_clients", 0)


def test_connections_that_arrive_while_a_worker_is_dead_are_served_by_its_successor(start):
    gateway = start(workers=1)
    killed = gateway.kill_child("hf-worker-0")
    with gateway.client("early") as client:
        client.ping()
    gateway.wait_successor("hf-worker-0", killed)


def test_a_worker_that_keeps_dying_is_restarted_with_growing_delays(start):
    gateway = start(workers=2)
    witness = gateway.client_on(1, "witness")
    for i in range(4):
        gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    delays = [int(e["restart_in_ms"]) for e in gateway.events("process_died", child="worker/0")]
    assert delays == [0, 100, 200, 400]
    generations = [int(e["generation"]) for e in gateway.events("process_ready", child="worker/0")]
    assert generations == [0, 1, 2, 3, 4]
    witness.ping()
    witness.close()


# ---- death of the hub

def test_nobody_is_disconnected_when_the_hub_is_killed_and_publishing_works_within_a_second(start):
    gateway = start(workers=2)
    clients = [gateway.client(f"c{i}", V5 if i % 2 else V311) for i in range(20)]
    for client in clients:
        client.subscribe("t")
    gateway.kill_child("hf-hub")
    begin = time.monotonic()
    answer = gateway.publish("t", "after")
    took = time.monotonic() - begin
    assert took < 1, took
    assert answer["seq"] > 0
    for client in clients:
        client.expect_publish("after")
        client.ping()
    clients[0].publish("t", "from a client")
    for client in clients:
        client.expect_publish("from a client")
    assert gateway.metric("holdfast_connections") == 20
    for client in clients:
        client.close()


def test_a_client_publishes_again_within_a_second_of_the_hubs_death(start):
    gateway = start()
    with gateway.client("a") as a, gateway.client("b") as b:
        b.subscribe("t")
        gateway.kill_child("hf-hub")
        begin = time.monotonic()
        got = None
        while got is None:
            a.publish("t", "x")  # QoS 0: what was in the dead hub's hands is lost
            with contextlib.suppress(mqtt.Silence):
                got = b.recv(0.05)
            assert time.monotonic() - begin < 1, "nothing arrived within a second"


def test_sequence_numbers_grow_over_the_hubs_death(start):
    gateway = start()
    before = gateway.publish("t", "x")["seq"]
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    assert gateway.publish("t", "x")["seq"] > before


def test_the_hub_knows_everybody_again_after_its_death(start):
    gateway = start(workers=2)
    clients = [gateway.client(f"c{i}") for i in range(10)]
    gateway.wait_successor("hf-hub", gateway.kill_child("hf-hub"))
    gateway.wait_metric("holdfast_registry_clients", 10)
    for i in range(10):
        answer = gateway.http("GET", f"/v1/clients/c{i}")
        assert answer.status == 200, answer
    for client in clients:
        client.close()
    gateway.wait_metric("holdfast_registry_clients", 0)


def test_hub_and_workers_killed_at_once_all_come_back(start):
    gateway = start(workers=3)
    killed = {name: gateway.kill_child(name) for name in sorted(gateway.processes())}
    for name, pid in killed.items():
        gateway.wait_successor(name, pid)
    with gateway.client_on(2, "after") as client:
        client.subscribe("t")
        gateway.publish("t", "works")
        client.expect_publish("works")


# ---- stop

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_says_goodbye_and_leaves_nobody(start, sig):
    gateway = start(workers=2)
    five = [gateway.client(f"five-{i}", V5) for i in range(10)]
    three = [gateway.client(f"three-{i}", V311) for i in range(10)]
    gateway.stop(sig=sig)
    for client in five + three:
        client.expect_disconnect(0x8B)
    assert gateway.events("stopping") and gateway.events("stopped", status="0")
    with pytest.raises(OSError):
        gateway.client("too late")


def test_wills_are_not_needed_for_a_clean_stop_to_end_in_time(start):
    gateway = start()
    clients = [gateway.client(f"c{i}", will=("wills", "gone")) for i in range(50)]
    begin = time.monotonic()
    gateway.stop()
    assert time.monotonic() - begin < 5
    for client in clients:
        client.close()


def test_a_stop_is_not_held_up_by_clients_that_read_nothing(start):
    gateway = start(listener='sndbuf = "8K"')
    deaf = [gateway.client(f"deaf-{i}", rcvbuf=4096) for i in range(10)]
    for i in range(20):
        gateway.publish("broadcast", "x" * 20000)
    gateway.wait_metric("holdfast_connections_active", 10)
    begin = time.monotonic()
    gateway.stop()
    assert time.monotonic() - begin < 12
    for client in deaf:
        client.close()


def test_a_worker_that_does_not_stop_is_killed_at_shutdown_timeout(start):
    gateway = start(workers=2, top='shutdown_timeout = "500ms"')
    os.kill(gateway.processes()["hf-worker-1"], signal.SIGSTOP)
    begin = time.monotonic()
    gateway.stop(expect=0)
    assert 0.5 <= time.monotonic() - begin < 5
    assert gateway.wait_event("killing")["child"] == "worker/1"


def test_a_second_signal_ends_everything_at_once(start):
    gateway = start(top='shutdown_timeout = "60s"')
    os.kill(gateway.processes()["hf-worker-0"], signal.SIGSTOP)
    children = children_of(gateway.pid)
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_event("stopping", process="supervisor")
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(5) == 1
    assert not any(is_alive(pid) for pid in children)


def test_signals_to_the_whole_group_stop_as_cleanly_as_one_to_the_supervisor(start):
    """Ctrl-C in a terminal and `systemctl stop` signal every process at once."""
    gateway = start(workers=2)
    with gateway.client("c") as client:
        for pid in children_of(gateway.pid):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        gateway.stop()
        client.expect_disconnect(0x8B)
    assert not gateway.events("process_died")


def test_sighup_without_tls_reloads_and_disturbs_nobody(start):
    gateway = start(workers=2)
    pids = gateway.processes()
    with gateway.client("c") as client:
        gateway.process.send_signal(signal.SIGHUP)
        reloaded = gateway.wait_event("reloaded")
        assert (reloaded["generation"], reloaded["workers"], reloaded["certificates"]) == ("2", "2", "0")
        client.ping()
    assert gateway.processes() == pids


def test_children_end_by_themselves_when_the_supervisor_is_killed(start):
    gateway = start(workers=2)
    children = children_of(gateway.pid)
    with gateway.client("c") as client:
        gateway.process.kill()
        gateway.process.wait()
        client.expect_disconnect(0x8B)
        wait_for(lambda: not any(is_alive(pid) for pid in children), "the end of all children")


def test_a_stop_during_the_start_is_clean(start):
    gateway = start(ready=False, workers=4)
    wait_for(lambda: gateway.events("listening"), "the first sockets")
    gateway.stop()


def test_a_stop_while_a_worker_waits_for_its_restart_is_clean(start):
    gateway = start(workers=2)
    for _ in range(3):
        gateway.wait_successor("hf-worker-0", gateway.kill_child("hf-worker-0"))
    gateway.kill_child("hf-worker-0")
    gateway.wait_event("process_died", count=4)
    gateway.stop()


def test_a_running_gateway_survives_random_kills_under_traffic(start):
    gateway = start(workers=2)
    stop = threading.Event()
    errors = []

    def come_and_go(number):
        while not stop.is_set():
            try:
                with gateway.client(f"c{number}", timeout=3) as client:
                    client.subscribe("t")
                    client.publish("t", "x")
                    client.recv(0.5)
            except (mqtt.Closed, mqtt.Silence, OSError):
                pass
            except AssertionError as e:
                errors.append(e)

    threads = [threading.Thread(target=come_and_go, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for name in ("hf-worker-0", "hf-hub", "hf-worker-1", "hf-hub", "hf-worker-0"):
        gateway.wait_successor(name, gateway.kill_child(name))
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    gateway.wait_metric("holdfast_connections", 0)
    gateway.wait_metric("holdfast_registry_clients", 0)
    with gateway.client("last") as client:
        gateway.publish("clients/last", "works")
        client.expect_publish("works")


# ---- the program

def test_a_wrong_configuration_is_refused_with_file_and_line(folder):
    path = folder / "wrong.conf"
    path.write_text('workers = 1\nlistener "a" { bind = "127.0.0.1:0" backlog = 99999999 }\n')
    for command in ("run", "check"):
        result = subprocess.run([BINARY, command, "-c", str(path)], capture_output=True, text=True, timeout=20)
        assert result.returncode != 0
        assert f"{path}:2:" in result.stderr and "backlog" in result.stderr, result.stderr


def test_check_prints_a_configuration_that_checks_again(folder):
    path = folder / "good.conf"
    path.write_text(f'data_dir = "{folder}/data"\nlistener "a" {{ bind = "127.0.0.1:0" }}\n')
    first = subprocess.run([BINARY, "check", "-c", str(path)], capture_output=True, text=True, timeout=20)
    assert first.returncode == 0, first
    again = folder / "again.conf"
    again.write_text(first.stdout)
    second = subprocess.run([BINARY, "check", "-c", str(again)], capture_output=True, text=True, timeout=20)
    assert second.returncode == 0, second
    assert second.stdout == first.stdout


def test_a_missing_configuration_file_is_reported(folder):
    result = subprocess.run([BINARY, "run", "-c", str(folder / "nothing.conf")], capture_output=True, text=True,
                            timeout=20)
    assert result.returncode != 0 and "nothing.conf" in result.stderr
