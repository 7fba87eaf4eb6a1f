"""Brakes and FCI through Desk, asked by franky's own client: against a server that speaks the requests of either version."""

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from robosteer_core.errors import UserError
from robosteer_core.rig import load_rig
from robosteer_ros.hardware.arm import desk
from robosteer_ros.ros import std_srvs

USER, PASSWORD, TOKEN = "ada", "engine", "t0ken"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Handler(BaseHTTPRequestHandler):
    """Notes what has changed the robot in `server.done`; what it does not know is 404, as in the other version of Desk."""

    protocol_version = "HTTP/1.1"

    def answer(self, method):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        code, reply = getattr(self, self.server.speaks)(f"{method} {self.path}", body)
        content = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("content-type", "text/plain" if isinstance(reply, str) else "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = lambda self: self.answer("GET")  # noqa: E731
    do_POST = lambda self: self.answer("POST")  # noqa: E731
    do_DELETE = lambda self: self.answer("DELETE")  # noqa: E731

    def controlled(self, name):
        if self.headers.get("X-Control-Token") != TOKEN:
            return 403, {"code": "NoControl"}
        self.server.done.append(name)
        return 200, {}

    def v1(self, request, body):
        if not self.path.startswith("/api/"):
            return 404, {}
        if self.headers.get("Authorization") != BASIC:
            return 401, {"code": "Unauthorized"}
        if request == "POST /api/system/control-token:take":
            return 200, {"token": TOKEN, "tokenId": 7}
        if request == "GET /api/system/control-token":
            return 200, {"owner": USER, "tokenId": 7}
        changing = ("arm/joints:unlock", "arm/joints:lock", "fci:activate", "system/control-token:release")
        if request in [f"POST /api/{path}" for path in changing]:
            return self.controlled(request.rpartition(":")[2])
        return 200, {}

    def before_v1(self, request, body):
        if request == "POST /admin/api/login":
            return (200, "cookie") if json.loads(body)["login"] == USER else (401, "who?")
        if self.path.startswith("/api/"):
            return 404, {}
        if self.headers.get("Cookie") != "authorization=cookie":
            return 401, {}
        if request == "POST /admin/api/control-token/request":
            return 200, {"id": 7, "token": TOKEN}
        if request == "GET /admin/api/system-status":
            return 200, {"controlToken": {"activeToken": {"id": 7}}}
        names = {
            "POST /desk/api/joints/unlock": "unlock", "POST /desk/api/joints/lock": "lock", "POST /desk/api/system/fci": "activate",
            "DELETE /admin/api/control-token": "release",
        }  # fmt: skip
        return self.controlled(names[request])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of its own making, as a robot's."""
    file = tmp_path_factory.mktemp("desk") / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=robot"]
    subprocess.run([*words, "-keyout", file, "-out", file.with_name("cert.pem")], check=True, capture_output=True)
    file.write_text(file.read_text() + file.with_name("cert.pem").read_text())
    return file


@pytest.fixture
def serve(certificate):
    """`serve("v1")` is (arm at a Desk of that version, what has been done there)."""
    servers = []

    def start(speaks, model="fr3"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.speaks, server.done = speaks, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        address = f"127.0.0.1:{server.server_port}"
        return SimpleNamespace(arm=load_rig("lab").arm.model_copy(update={"address": address, "model": model}), done=server.done)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("speaks, model", [("v1", "fr3"), ("before_v1", "fr3"), ("before_v1", "panda")])
def test_brakes_and_fci_are_asked_for_with_control_which_is_given_back(serve, speaks, model):
    robot = serve(speaks, model)
    assert desk.unlock(robot.arm, USER, PASSWORD).startswith("the brakes are unlocked")
    assert desk.activate_fci(robot.arm, USER, PASSWORD).startswith("the FCI is active")
    assert desk.lock(robot.arm, USER, PASSWORD).startswith("the brakes are locked")
    assert robot.done == ["unlock", "release", "activate", "release", "lock", "release"]


def test_the_arms_node_asks_desk_before_there_is_a_robot_to_be_configured(serve, new_rig, caller):
    robot = serve("v1")
    path = new_rig(arm={"address": robot.arm.address})
    words = [sys.executable, "-m", "robosteer_ros.nodes.arm", "--ros-args", "-p", f"rig:={path}", "-r", "__ns:=/off"]
    client = caller.create_client(std_srvs.srv.Trigger, "/off/arm/unlock")
    with subprocess.Popen(words, env=os.environ | {desk.USER: USER, desk.PASSWORD: PASSWORD}) as node:
        try:
            assert client.wait_for_service(60)
            answer = client.call(std_srvs.srv.Trigger.Request(), 60)
        finally:
            node.terminate()
    caller.destroy_client(client)
    assert answer.success and answer.message.startswith("the brakes are unlocked") and robot.done == ["unlock", "release"]


def test_who_is_not_let_in_is_told_so_and_nothing_is_done(serve):
    robot = serve("v1")
    with pytest.raises(UserError, match="is the password right"):
        desk.unlock(robot.arm, USER, "other")
    assert robot.done == []


def test_a_desk_that_is_not_there_and_credentials_that_are_missing_are_named(monkeypatch, free_ports):
    arm = load_rig("lab").arm.model_copy(update={"address": f"127.0.0.1:{free_ports()}"})
    with pytest.raises(UserError, match="check `arm.address`"):
        desk.unlock(arm, USER, PASSWORD)
    monkeypatch.delenv(desk.USER, raising=False)
    monkeypatch.setenv(desk.PASSWORD, PASSWORD)
    with pytest.raises(UserError, match=f"set {desk.USER} for"):
        desk.credentials()
    monkeypatch.setenv(desk.USER, USER)
    assert desk.credentials() == (USER, PASSWORD)
