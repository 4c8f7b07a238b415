"""quickstart.sh: what it prints works when pasted."""

import re
import signal
import socket
import subprocess

import pytest

from conftest import ROOT, wait_for


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.slow
def test_the_three_lines_to_try_work_and_sigterm_ends_it(folder):
    ports = [str(free_port()) for _ in range(2)]
    out = folder / "out"
    with open(out, "wb") as log:
        process = subprocess.Popen([ROOT / "quickstart.sh", "--port", ports[0], "--api-port", ports[1]],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        def ready():
            assert process.poll() is None, out.read_text()
            return "Ctrl-C stops it." in out.read_text()
        wait_for(ready, "quickstart to be ready", 400)
        lines = re.findall(r"^  (\S.*)$", out.read_text(), re.M)[-3:]
        assert [line.split()[0] for line in lines] == ["mosquitto_sub", "curl", "curl"], lines
        subscriber = subprocess.Popen(f"{lines[0]} -C 1 -W 60", shell=True, stdout=subprocess.PIPE, text=True)
        while subscriber.poll() is None:  # until it has subscribed
            answer = subprocess.run(lines[1], shell=True, capture_output=True, text=True, timeout=20)
            assert answer.returncode == 0 and '"seq"' in answer.stdout, answer
        assert subscriber.stdout.read() == "news hello\n"
        subscriber.stdout.close()
        metrics = subprocess.run(lines[2], shell=True, capture_output=True, text=True, timeout=20)
        assert "holdfast_connections" in metrics.stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, out.read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def test_a_taken_port_is_reported_before_anything_is_built():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = str(sock.getsockname()[1])
        result = subprocess.run([ROOT / "quickstart.sh", "--port", port], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert f"port {port} is taken" in result.stderr and "--port" in result.stderr


def test_wrong_arguments_are_refused():
    for arguments, status in ((["--help"], 0), (["--port"], 1), (["--port", "x"], 1), (["--nonsense"], 2)):
        result = subprocess.run([ROOT / "quickstart.sh", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, timeout=20)
        assert result.returncode == status, (arguments, result)
        assert "usage:" in result.stdout + result.stderr or "wants a port" in result.stderr
