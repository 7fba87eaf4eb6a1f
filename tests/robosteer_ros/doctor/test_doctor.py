"""What the doctor finds, and what it says to do: on this machine, and on folders laid out as /proc and /sys of others."""

import json
import os
import socket
import subprocess
import sys

import pytest
import typer
import yaml
from typer.testing import CliRunner

from robosteer_core.rig import load_rig
from robosteer_ros.doctor import cameras, computer, graph, network
from robosteer_ros.doctor.cameras import Device
from robosteer_ros.doctor.command import doctor
from robosteer_ros.hardware.sockets import listener, owner
from robosteer_ros.ros.network import networks


@pytest.fixture
def system(tmp_path):
    """`system({"sys/kernel/realtime": "1"})`: a root with these files."""

    def lay_out(files):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        return tmp_path

    return lay_out


@pytest.fixture
def real_rig(tmp_path):
    """A rig with an arm and cameras that are not of the lab, as its file."""
    content = load_rig("lab").model_dump(mode="json", exclude={"lab"})
    content["arm"] |= {"address": "198.51.100.7", "realtime": True}
    content["cameras"] = [{"name": "front", "serial": "123", "mount": "fixed"}, {"name": "wrist", "serial": "456", "mount": "hand"}]
    path = tmp_path / "real.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("files, needed, level, remedy", [
    ({"sys/kernel/realtime": "1"}, True, "ok", ""),
    ({}, True, "fail", "realtime-kernel"),
    ({}, False, "ok", ""),
])  # fmt: skip
def test_a_kernel_without_preempt_rt_fails_where_the_rig_asks_for_it(system, files, needed, level, remedy):
    finding = computer.kernel(needed, system(files | {"proc/sys/kernel/osrelease": "6.8.1"}))
    assert finding.level == level and remedy in finding.remedy and "6.8.1" in finding.found


@pytest.mark.parametrize("governors, level", [(["performance", "performance"], "ok"), (["performance", "powersave"], "warn"), ([], "ok")])
def test_every_processor_is_to_run_at_full_speed(system, governors, level):
    root = system({f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor": name for i, name in enumerate(governors)})
    assert computer.governor(root).level == level


@pytest.mark.parametrize("source, level", [("tsc", "ok"), ("hpet", "warn")])
def test_a_slow_clock_is_named(system, source, level):
    finding = computer.clock_source(system({"sys/devices/system/clocksource/clocksource0/current_clocksource": source}))
    assert (finding.level, finding.found) == (level, source)


def test_a_disk_is_judged_by_what_the_rig_records_and_nothing_is_left_on_it(tmp_path):
    slow, fast = ({one.check: one for one in computer.disk(tmp_path, need, 4)} for need in (1e9, 1e-3))
    assert slow["disk speed"].level == "fail" and "SSD" in slow["disk speed"].remedy
    assert fast["disk speed"].level == "ok" and "hours of recording" in fast["disk space"].found
    assert list(tmp_path.iterdir()) == []


def test_the_priority_is_given_back():
    before = os.sched_getscheduler(0)
    computer.priority(needed=True)
    assert os.sched_getscheduler(0) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not")
def test_a_user_without_real_time_priority_is_told_how_to_get_it():
    code = "from robosteer_ros.doctor.computer import priority; print(priority(True))"
    asked = subprocess.run(
        [sys.executable, "-c", f"import os, resource; resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0)); {code.split(';')[0]}; "
         f"os.setuid(65534); {code.split(';')[1]}"], capture_output=True, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert "not permitted for this user" in asked.stdout and "realtime.conf" in asked.stdout, asked.stderr


def test_round_trips_are_measured_and_a_silent_address_fails():
    here = network.round_trips("127.0.0.1", count=50)
    if "may not send" not in here.found:
        assert "0 of 50 lost" in here.found
        # An address of documentation (RFC 5737): nobody has it.
        assert network.round_trips("198.51.100.7").level == "fail"
    assert network.interface("127.0.0.1").found == "127.0.0.1 is this machine"


def test_each_camera_of_the_rig_is_looked_for(real_rig):
    there = {"123": Device("D435", "3.2", "5.16"), "789": Device("D405", "3.2", "5.16")}
    front, wrist = cameras.compare(load_rig(real_rig), there, lab_is_up=False)
    assert front.level == "ok" and "USB 3.2" in front.found
    assert wrist.level == "fail" and "456 is not there; there are: 123 (D435), 789 (D405)" in wrist.found
    slow, _ = cameras.compare(load_rig(real_rig), {"123": Device("D435", "2.1", "5.16")}, lab_is_up=False)
    assert slow.level == "fail" and "USB 2.1" in slow.found and "USB 3 cable" in slow.remedy


@pytest.mark.parametrize("value, level", [("", "ok"), ("101", "ok"), ("150", "warn"), ("300", "fail"), ("lab", "fail")])
def test_a_ros_domain_is_a_number_with_ports_of_its_own(monkeypatch, value, level):
    monkeypatch.setenv("ROS_DOMAIN_ID", value)
    assert graph.domain().level == level


def test_a_missing_configuration_of_dds_fails(monkeypatch):
    monkeypatch.setenv("CYCLONEDDS_URI", "file:///nowhere/cyclone.xml")
    assert graph.where(load_rig("lab")).level == "fail"


@pytest.mark.parametrize("told, level, found", [
    pytest.param(
        "", "ok", "all that it reaches, as the rig says: `network: subnet`",
        marks=pytest.mark.skipif(not networks(), reason="this machine is in no network"),
    ),
    ("LOCALHOST", "ok", "nothing leaves this machine, as ROS_AUTO"),
    ("FAR", "warn", "ROS_AUTOMATIC_DISCOVERY_RANGE=FAR"),
])  # fmt: skip
def test_how_far_the_graph_is_heard_is_told(monkeypatch, told, level, found):
    monkeypatch.delenv("CYCLONEDDS_URI", raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", told)
    finding = graph.where(load_rig("lab").model_copy(update={"network": "subnet"}))
    assert finding.level == level and found in finding.found


@pytest.mark.parametrize("most, level", [(212992, "warn"), (8388608, "ok")])
def test_small_receive_buffers_are_named_with_the_line_that_widens_them(system, most, level):
    finding = graph.buffers(system({"proc/sys/net/core/rmem_max": most}))
    assert finding.level == level and (level == "ok" or "sudo sysctl -w net.core.rmem_max=" in finding.remedy)


def test_a_port_that_somebody_else_has_fails_with_who_it_is(new_rig):
    rig = load_rig(new_rig())
    (free,) = graph.ports(rig)
    assert free.level == "ok" and free.found.startswith("free")
    host, port = rig.teleop_address.split(":")
    with socket.create_server((host, int(port))):
        (taken,) = graph.ports(rig)
        assert taken.level == "fail" and f"(teleoperation) by process {os.getpid()}" in taken.found
        assert owner(listener(host, int(port))).startswith(f"{os.getpid()} (")


def run(*words):
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_rig_that_cannot_run_ends_with_exit_code_1_and_the_same_findings_as_json(real_rig, tmp_path):
    done = run("--rig", real_rig, "--folder", tmp_path, "--json", "-")
    findings = json.loads(done.stdout)["findings"]
    failed = {finding["check"]: finding for finding in findings if finding["level"] == "fail"}
    assert done.exit_code == 1 and {"camera front", "camera wrist", "robot"} <= set(failed)
    assert all(finding["remedy"] for finding in findings if finding["level"] != "ok")
    assert "camera front: serial 123 is not there" in done.stderr


def test_a_lab_that_runs_has_nothing_to_mend(new_rig, start_lab, start, tmp_path):
    path = new_rig()
    with start_lab(path), start("sim", "cameras", "--rig", str(path), line="drawing"):
        done = run("--rig", path, "--folder", tmp_path, "--json", tmp_path / "findings.json")
    found = {finding["check"]: finding for finding in json.loads((tmp_path / "findings.json").read_text())["findings"]}
    assert done.exit_code == 0, done.stdout
    assert "speaks server version 10" in found["robot"]["found"] and "robosteer runs" in found["ports"]["found"]
    assert found["camera front"]["level"] == found["camera wrist"]["level"] == "ok"
