"""TLS clients for the tests: one that decides which bytes go into which segment, one that is another program, and a
relay that looks at the records on their way.

Clients speak MQTT through mqtt_raw. `TlsSocket` is Python's ssl over memory: nothing is sent that a test has not asked
for. `Program` is the standard input and output of, say, `openssl s_client`.
"""

import contextlib
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time

import mqtt_raw as mqtt

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HANDSHAKE, ALERT, DATA = 22, 21, 23  # content types of records


def context(version=None, ciphers=None, ca=None, certificate=None, keylog=None):
    """A client's context. `ca`: file, and the name is checked; `certificate`: (chain, key)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not ca:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_verify_locations(ca)
    if version:
        made.minimum_version = made.maximum_version = version
    if ciphers:
        made.set_ciphers(ciphers)
    if certificate:
        made.load_cert_chain(*certificate)
    if keylog:
        made.keylog_filename = str(keylog)
    return made


def records(data):
    """Cuts a stream into (content type, length) per record; an incomplete one at the end is left out."""
    found, at = [], 0
    while at + 5 <= len(data):
        length = int.from_bytes(data[at + 3:at + 5], "big")
        if at + 5 + length > len(data):
            break
        found.append((data[at], length))
        at += 5 + length
    return found


class TlsSocket:
    """The client's end of TLS. Has of a socket what mqtt_raw.Client needs."""

    def __init__(self, address, tls=None, name=None, session=None, handshake=True, rcvbuf=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (tls or context()).wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(mqtt.PATIENCE)
        self.received = 0  # bytes from the network
        self.closed_well = False  # close_notify has come
        try:
            self.sock.connect(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if handshake:
                self.send_raw(self.handshake())
        except BaseException:
            self.sock.close()
            raise

    def send_raw(self, data, step=None):
        """Sends bytes as they are, in segments of `step`."""
        for at in range(0, len(data), step or max(len(data), 1)):
            self.sock.sendall(data[at:at + (step or len(data))])

    def feed(self):
        """Waits for bytes from the network and gives them to TLS. False: there are no more."""
        data = self.sock.recv(65536)
        self.received += len(data)
        self.incoming.write(data) if data else self.incoming.write_eof()
        return bool(data)

    def handshake(self, step=None, until=None):
        """Goes through the handshake, or until something is the case. The last flight is returned and not sent."""
        while True:
            try:
                self.tls.do_handshake()
                return self.outgoing.read()
            except ssl.SSLWantReadError:
                flight = self.outgoing.read()
                if until and until():
                    return flight
                self.send_raw(flight, step)
            except ssl.SSLError:  # tell the server why
                with contextlib.suppress(OSError):
                    self.send_raw(self.outgoing.read())
                raise
            self.feed()

    def seal(self, data):
        """The records for some content; an empty one gives none. Also what TLS itself wants to say."""
        done = 0
        while done < len(data):
            done += self.tls.write(data[done:])
        return self.outgoing.read()

    def sendall(self, data):
        self.send_raw(self.seal(data))

    def recv(self, size):
        """Content, or b"" after the server's close_notify (`closed_well`) or FIN. An alert raises ssl.SSLError."""
        while True:
            try:
                data = self.tls.read(size)
                self.closed_well |= not data
                return data
            except ssl.SSLZeroReturnError:
                self.closed_well = True
                return b""
            except ssl.SSLEOFError:
                return b""
            except ssl.SSLWantReadError:
                self.feed()

    def close_notify(self):
        """The record that says that nothing more will come."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()

    def wait_fin(self):
        """Waits until the server has closed; what comes meanwhile is thrown away."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass

    @property
    def session(self):
        """The session for a resumption. In TLS 1.3 it comes behind the handshake: something must have been read."""
        return self.tls.session

    def __getattr__(self, name):  # settimeout, setsockopt, shutdown, getsockname, getpeername, close
        return getattr(self.sock, name)


class Client(mqtt.Client):
    """An MQTT client over anything that is used like a socket."""

    def __init__(self, sock, client_id="", version=mqtt.V5, connect=True, **options):
        self.version, self.client_id, self.buffer, self.eof, self.sock = version, client_id, bytearray(), False, sock
        self.passed_over = []
        try:
            if connect:
                self.connack = self.login(**options)
        except BaseException:
            self.sock.close()
            raise


def client(gateway, client_id="", tls=None, name=None, session=None, rcvbuf=None, **options):
    """An MQTT client over TLS to the gateway's listener "secure"."""
    return Client(TlsSocket(gateway.secure, tls, name, session, rcvbuf=rcvbuf), client_id, **options)


class Program:
    """A program whose standard input goes to the gateway, and what comes from there to its standard output. What it
    says about the connection is in `said`. Used like a socket."""

    def __init__(self, *command, **options):
        self.said, self.deadline, self.timeout = b"", 0, mqtt.PATIENCE
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, bufsize=0, **options)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), False)

    def settimeout(self, seconds):
        self.timeout = seconds

    def listen(self):
        """Takes what it has said until now. False: it will say nothing more."""
        data = self.process.stderr.read(65536)
        self.said += data or b""
        return data != b""

    def wait(self, what, timeout):
        """Waits for a pipe: "stdin" or "stdout", or for new words on stderr when that is all."""
        deadline = time.monotonic() + timeout
        talks = True
        while True:
            pipes = [self.process.stderr] if talks else []
            read = pipes + ([self.process.stdout] if what == "stdout" else [])
            write = [self.process.stdin] if what == "stdin" else []
            ready = select.select(read, write, [], max(0, deadline - time.monotonic()))
            if self.process.stderr in ready[0]:
                talks = self.listen()
            if any(pipe in ready[0] + ready[1] for pipe in read + write if pipe is not self.process.stderr):
                return
            if what is None:
                return
            if not any(ready):
                raise socket.timeout()

    def sendall(self, data):
        view = memoryview(data)
        while view:
            self.wait("stdin", self.timeout)
            view = view[self.process.stdin.write(view) or 0:]

    def recv(self, size):
        self.wait("stdout", self.timeout)
        return self.process.stdout.read(size)

    def wait_said(self, text, count=1, timeout=mqtt.PATIENCE):
        """Waits until it has said this so many times."""
        deadline = time.monotonic() + timeout
        while self.said.count(text.encode()) < count:
            assert time.monotonic() < deadline, f"{text!r} {count} times expected in {self.said.decode()}"
            self.wait(None, 0.2)
            self.listen()

    def finish(self, timeout=mqtt.PATIENCE):
        """Ends its input, waits for its end, and returns the rest of its output."""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            os.set_blocking(pipe.fileno(), True)
        out, said = self.process.communicate(timeout=timeout)
        self.said += said
        return out

    def close(self):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


class Relay:
    """Passes connections on to an address and keeps what went each way: `up` and `down`, from the newest one."""

    def __init__(self, target):
        self.target, self.up, self.down = target, bytearray(), bytearray()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = self.server.getsockname()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                self.up, self.down = bytearray(), bytearray()
                with near, socket.create_connection(self.target) as far:
                    self.pump(near, far)

    def pump(self, near, far):
        other = {near: (far, self.up), far: (near, self.down)}
        open_ends = [near, far]
        while open_ends:
            for end in select.select(open_ends, [], [])[0]:
                to, kept = other[end]
                try:
                    data = end.recv(65536)
                except ConnectionResetError:
                    return
                if not data:
                    open_ends.remove(end)
                    with contextlib.suppress(OSError):
                        to.shutdown(socket.SHUT_WR)
                    continue
                kept += data
                with contextlib.suppress(OSError):
                    to.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):  # the second time
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(mqtt.PATIENCE)


def reset(sock):
    """Ends a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
