"""What nodes rely on, by the names of rclpy: the same tests on real rclpy, where ROS is sourced, and on the DDS backend."""

import array
import signal
import threading

import numpy as np
import pytest

from robosteer_ros import ros
from robosteer_ros.ros import (
    DurabilityPolicy,
    Duration,
    LifecycleNode,
    MultiThreadedExecutor,
    MutuallyExclusiveCallbackGroup,
    Node,
    Parameter,
    QoSProfile,
    ReentrantCallbackGroup,
    ReliabilityPolicy,
    SingleThreadedExecutor,
    Time,
    TransitionCallbackReturn,
    builtin_interfaces,
    diagnostic_msgs,
    geometry_msgs,
    lifecycle_msgs,
    rcl_interfaces,
    rosgraph_msgs,
    sensor_msgs,
    std_msgs,
    std_srvs,
    trajectory_msgs,
)

String = std_msgs.msg.String
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def join():
    """`join("--ros-args", ...)` joins the graph with these arguments; left at the end."""
    yield lambda *arguments: ros.init(args=["test", *arguments])
    ros.try_shutdown()


@pytest.fixture
def graph(join):
    join()


@pytest.fixture
def node(graph):
    node = Node("near")
    yield node
    node.destroy_node()


@pytest.fixture
def executor(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    yield executor
    executor.shutdown()


@pytest.fixture
def call(node, executor):
    """`call(type, name, request)` calls a service of another process."""

    def do(kind, name, request):
        client = node.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=20)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=20)
        assert future.done()
        node.destroy_client(client)
        return future.result()

    return do


# Messages


def test_messages_start_from_their_defaults_and_take_keywords():
    pose = geometry_msgs.msg.PoseStamped()
    assert (pose.pose.orientation.w, pose.pose.orientation.x, pose.header.frame_id, pose.header.stamp.sec) == (1.0, 0.0, "", 0)
    assert String(data="a") == String(data="a") != String(data="b")
    assert repr(String(data="a")) == "std_msgs.msg.String(data='a')"
    with pytest.raises(AssertionError):
        String(text="a")


def test_arrays_are_of_the_types_that_ros_gives_them():
    assert isinstance(sensor_msgs.msg.Image().data, array.array) and sensor_msgs.msg.Image().data.typecode == "B"
    assert isinstance(sensor_msgs.msg.JointState(position=[1.0, 2.0]).position, array.array)
    assert isinstance(sensor_msgs.msg.CameraInfo().k, np.ndarray) and sensor_msgs.msg.CameraInfo().k.shape == (9,)
    info = sensor_msgs.msg.CameraInfo(k=np.arange(9.0))
    assert info.k[4] == 4.0 and info == sensor_msgs.msg.CameraInfo(k=[float(n) for n in range(9)])
    state = sensor_msgs.msg.JointState()
    state.name.append("a")
    state.position.append(0.5)
    assert (state.name, state.position.tolist()) == (["a"], [0.5])


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("header", 1), ("width", -1), ("width", 1.0), ("encoding", 3), ("is_bigendian", 256), ("data", "text"), ("data", [256]),
        ("data", np.zeros(4, np.uint8)),
    ],
)  # fmt: skip
def test_a_field_refuses_what_is_not_of_its_type(change, value):
    image = sensor_msgs.msg.Image()
    with pytest.raises(AssertionError):
        setattr(image, change, value)


def test_whole_numbers_are_no_floats_and_lengths_count():
    with pytest.raises(AssertionError):
        geometry_msgs.msg.Point(x=1)
    with pytest.raises(AssertionError):
        sensor_msgs.msg.CameraInfo(k=[0.0] * 8)
    with pytest.raises(AttributeError):
        String().text = "a"


def test_constants_and_octets():
    status = diagnostic_msgs.msg.DiagnosticStatus
    assert (status.OK, status.WARN, status().level) == (b"\x00", b"\x01", b"\x00")
    assert rcl_interfaces.msg.ParameterType.PARAMETER_STRING_ARRAY == 9
    assert lifecycle_msgs.msg.State.PRIMARY_STATE_ACTIVE == 3
    with pytest.raises(AttributeError):
        status.OK = b"\x02"


def test_fields_are_named_with_their_types():
    assert trajectory_msgs.msg.MultiDOFJointTrajectory.get_fields_and_field_types() == {
        "header": "std_msgs/Header",
        "joint_names": "sequence<string>",
        "points": "sequence<trajectory_msgs/MultiDOFJointTrajectoryPoint>",
    }
    assert sensor_msgs.msg.CameraInfo.get_fields_and_field_types()["k"] == "double[9]"


# Topics


def test_messages_arrive_from_another_process_in_order(node, executor, peer, until):
    heard = []
    node.create_subscription(String, "/far/pong", lambda message: heard.append(message.data), 100)
    publisher = node.create_publisher(String, "/far/ping", 100)
    until(executor, lambda: publisher.get_subscription_count() == 1 and node.count_publishers("/far/pong") == 1)
    until(executor, lambda: publisher.publish(String(data="sentinel")) or heard)
    heard.clear()
    for number in range(50):
        publisher.publish(String(data=str(number)))
    until(executor, lambda: "49 back" in heard)
    assert [word for word in heard if not word.startswith("sentinel")] == [f"{number} back" for number in range(50)]


def test_an_image_arrives_whole(node, executor, peer, until):
    images = []
    subscription = node.create_subscription(sensor_msgs.msg.Image, "/far/image", images.append, 10)
    publisher = node.create_publisher(String, "/far/ping", 10)
    until(executor, lambda: publisher.get_subscription_count() and subscription.get_publisher_count())
    until(executor, lambda: images or publisher.publish(String(data="image")))
    assert (images[0].height, images[0].width, images[0].header.frame_id, images[0].step) == (480, 640, "camera", 1920)
    assert isinstance(images[0].data, array.array) and images[0].data.tobytes() == bytes(range(256)) * 3600


def test_who_comes_late_gets_what_was_kept(node, executor, peer, until):
    heard = []
    node.create_subscription(String, "/far/latched", lambda message: heard.append(message.data), LATCHED)
    until(executor, lambda: "kept 4" in heard)
    assert heard == ["kept 2", "kept 3", "kept 4"]


def test_who_asks_for_new_messages_gets_none_of_those_kept(node, executor, peer, until):
    heard, answered = [], []
    subscription = node.create_subscription(String, "/far/latched", heard.append, 10)
    node.create_subscription(String, "/far/pong", answered.append, 10)
    publisher = node.create_publisher(String, "/far/ping", 10)
    until(executor, lambda: subscription.get_publisher_count() == 1 and publisher.get_subscription_count() == 1)
    until(executor, lambda: answered or publisher.publish(String(data="sentinel")))
    assert heard == []


def test_depth_keeps_the_latest(node, executor, until):
    heard = []
    node.create_subscription(std_msgs.msg.Int32, "numbers", lambda message: heard.append(message.data), 2)
    publisher = node.create_publisher(std_msgs.msg.Int32, "numbers", 10)
    until(executor, lambda: publisher.get_subscription_count() == 1)
    for number in range(6):
        publisher.publish(std_msgs.msg.Int32(data=number))
    until(executor, lambda: 5 in heard)
    assert heard == [4, 5]


def test_best_effort_publishers_do_not_reach_reliable_subscriptions(node, executor, until):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(String, "weak", best_effort)
    node.create_subscription(String, "weak", lambda message: None, 1)
    node.create_subscription(String, "weak", lambda message: None, best_effort)
    until(executor, lambda: node.count_subscribers("weak") == 2 and publisher.get_subscription_count())
    assert publisher.get_subscription_count() == 1


def test_a_publisher_refuses_a_message_of_another_type(node):
    with pytest.raises(TypeError):
        node.create_publisher(String, "words", 1).publish(std_msgs.msg.Int32(data=1))


def test_the_graph_shows_nodes_topics_and_services(node, executor, peer, until):
    until(executor, lambda: ("peer", "/far") in node.get_node_names_and_namespaces())
    until(executor, lambda: ("/far/pong", ["std_msgs/msg/String"]) in node.get_topic_names_and_types())
    until(executor, lambda: ("/far/switch", ["std_srvs/srv/SetBool"]) in node.get_service_names_and_types())
    until(executor, lambda: node.get_publishers_info_by_topic("/far/latched"))
    (info,) = node.get_publishers_info_by_topic("/far/latched")
    assert (info.node_name, info.node_namespace, info.topic_type) == ("peer", "/far", "std_msgs/msg/String")
    assert info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL


# Executors, timers


def test_a_timer_keeps_its_period(node, executor, until):
    ticks = []
    timer = node.create_timer(0.02, lambda: ticks.append(node.get_clock().now()))
    began = node.get_clock().now()
    until(executor, lambda: len(ticks) == 10)
    assert ticks[-1] - began >= Duration(seconds=0.19)
    timer.cancel()
    assert timer.is_canceled()
    executor.spin_once(timeout_sec=0.06)
    assert len(ticks) == 10
    timer.reset()
    until(executor, lambda: len(ticks) == 11)


def test_what_a_callback_raises_ends_the_spin(node, executor, until):
    def fail():
        raise ValueError("of the callback")

    node.create_timer(0.001, fail)
    with pytest.raises(ValueError, match="of the callback"):
        executor.spin()


def test_spin_once_returns_when_nothing_happens(node, executor):
    began = node.get_clock().now()
    executor.spin_once(timeout_sec=0)
    executor.spin_once(timeout_sec=0.05)
    assert Duration(seconds=0.02) <= node.get_clock().now() - began < Duration(seconds=5)


def test_groups_decide_what_runs_side_by_side(node, until):
    """Two callbacks that wait for each other meet only where their group lets them run at the same time."""
    for group, expected in ((ReentrantCallbackGroup(), True), (MutuallyExclusiveCallbackGroup(), False)):
        meeting, met = threading.Barrier(2), []

        def wait(meeting=meeting, met=met):
            try:
                meeting.wait(1)
                met.append(True)
            except threading.BrokenBarrierError:
                met.append(False)

        timers = [node.create_timer(0.01, wait, callback_group=group) for _ in range(2)]
        executor = MultiThreadedExecutor(num_threads=2)
        executor.add_node(node)
        until(executor, lambda met=met: met)
        assert met[0] is expected
        for timer in timers:
            node.destroy_timer(timer)
        executor.shutdown()


def test_a_callback_may_wait_for_a_service(node, executor, peer, until):
    # A group of its own: the timer's is taken until its callback has ended.
    client = node.create_client(std_srvs.srv.SetBool, "/far/switch", callback_group=ReentrantCallbackGroup())
    assert client.wait_for_service(timeout_sec=20)
    answers = []

    async def ask():
        timer.cancel()
        answers.append((await client.call_async(std_srvs.srv.SetBool.Request(data=True))).message)

    timer = node.create_timer(0.01, ask)
    until(executor, lambda: answers)
    assert answers == ["on"]


def test_a_task_and_a_guard_condition_run_on_the_executor(node, executor, until):
    done = []
    guard = node.create_guard_condition(lambda: done.append("guard"))
    task = executor.create_task(lambda: "result")
    guard.trigger()
    until(executor, lambda: task.done() and done)
    assert (task.result(), done) == ("result", ["guard"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_process_cleanly(start_peer, number):
    with start_peer() as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    *before, last = output.splitlines()
    assert last == "bye" and set(before) <= {"KeyboardInterrupt", "ExternalShutdownException"}


# Services


def test_a_service_of_another_process_answers(call, peer):
    response = call(std_srvs.srv.SetBool, "/far/switch", std_srvs.srv.SetBool.Request(data=True))
    assert (response.success, response.message) == (True, "on")


def test_a_service_that_is_not_there_is_not_ready(node):
    client = node.create_client(std_srvs.srv.Empty, "nobody")
    assert not client.service_is_ready() and not client.wait_for_service(timeout_sec=0.3)
    with pytest.raises(TypeError):
        client.call_async(std_srvs.srv.Trigger.Request())


def test_answers_reach_the_client_that_asked(node, executor, until):
    def mirror(request, response):
        response.success = request.data
        return response

    node.create_service(std_srvs.srv.SetBool, "mirror", mirror)
    clients = [node.create_client(std_srvs.srv.SetBool, "mirror") for _ in range(2)]
    assert all(client.wait_for_service(timeout_sec=20) for client in clients)
    futures = [client.call_async(std_srvs.srv.SetBool.Request(data=bool(n))) for n, client in enumerate(clients)]
    until(executor, lambda: all(future.done() for future in futures))
    assert [future.result().success for future in futures] == [False, True]


# Parameters


def test_parameters_are_declared_set_and_refused(node):
    assert node.declare_parameter("rate", 5).value == 5
    with pytest.raises(ros.ParameterAlreadyDeclaredException):
        node.declare_parameter("rate", 5)
    with pytest.raises(ros.ParameterNotDeclaredException):
        node.get_parameter("absent")
    (result,) = node.set_parameters([Parameter("rate", value="fast")])
    assert not result.successful and "type" in result.reason and node.get_parameter("rate").value == 5
    node.add_on_set_parameters_callback(
        lambda parameters: rcl_interfaces.msg.SetParametersResult(successful=parameters[0].value < 10, reason="below 10")
    )
    assert [node.set_parameters([Parameter("rate", value=value)])[0].successful for value in (7, 12)] == [True, False]
    assert node.get_parameter("rate").value == 7


def test_a_descriptor_limits_a_parameter(node):
    limits = rcl_interfaces.msg.IntegerRange(from_value=0, to_value=10, step=2)
    node.declare_parameter("even", 4, rcl_interfaces.msg.ParameterDescriptor(integer_range=[limits]))
    node.declare_parameter("fixed", "x", rcl_interfaces.msg.ParameterDescriptor(read_only=True))
    node.declare_parameter("typed", Parameter.Type.DOUBLE)
    results = node.set_parameters([Parameter("even", value=value) for value in (6, 7, 12)] + [Parameter("fixed", value="y")])
    assert [result.successful for result in results] == [True, False, False, False]
    with pytest.raises(ros.ParameterUninitializedException):
        node.get_parameter("typed")


def test_parameters_of_another_process(call, peer):
    srv, value = rcl_interfaces.srv, rcl_interfaces.msg.ParameterValue
    listed = call(srv.ListParameters, "/far/peer/list_parameters", srv.ListParameters.Request()).result.names
    assert {"gain", "words", "use_sim_time"} <= set(listed)
    found = call(srv.GetParameters, "/far/peer/get_parameters", srv.GetParameters.Request(names=["gain", "words"])).values
    assert (found[0].double_value, list(found[1].string_array_value)) == (1.5, ["a", "b"])
    change = rcl_interfaces.msg.Parameter(name="gain", value=value(type=3, double_value=2.5))
    wrong = rcl_interfaces.msg.Parameter(name="gain", value=value(type=4, string_value="much"))
    absent = rcl_interfaces.msg.Parameter(name="absent", value=value(type=3, double_value=2.5))
    request = srv.SetParameters.Request(parameters=[change, wrong, absent])
    results = call(srv.SetParameters, "/far/peer/set_parameters", request).results
    assert [result.successful for result in results] == [True, False, False]
    types = call(srv.GetParameterTypes, "/far/peer/get_parameter_types", srv.GetParameterTypes.Request(names=["gain"])).types
    assert list(types) == [3]
    described = call(srv.DescribeParameters, "/far/peer/describe_parameters", srv.DescribeParameters.Request(names=["words"]))
    assert (described.descriptors[0].name, described.descriptors[0].type) == ("words", 9)


def test_a_change_of_a_parameter_is_told(node, executor, peer, call, until):
    events = []
    node.create_subscription(rcl_interfaces.msg.ParameterEvent, "/parameter_events", events.append, 100)
    until(executor, lambda: node.count_publishers("/parameter_events") == 2)
    srv = rcl_interfaces.srv.SetParametersAtomically
    value = rcl_interfaces.msg.ParameterValue(type=3, double_value=3.5)
    change = srv.Request(parameters=[rcl_interfaces.msg.Parameter(name="gain", value=value)])
    until(
        executor,
        lambda: call(srv, "/far/peer/set_parameters_atomically", change).result.successful
        and [one for event in events if event.node == "/far/peer" for one in event.changed_parameters if one.name == "gain"],
    )


def test_parameters_come_from_the_command_line_and_from_files(join, tmp_path):
    path = tmp_path / "parameters.yaml"
    path.write_text(
        "/**: {ros__parameters: {a: 1, deep: {b: [1.0, 2.0]}}}\n"
        "/lab/one: {ros__parameters: {a: 2}}\n"
        "other: {ros__parameters: {a: 9}}\n"
    )
    join("--ros-args", "--params-file", str(path), "-p", "c:=text", "-p", "two:a:=5", "-p", "d:=true")
    one, two = Node("one", namespace="lab"), Node("two")
    defaults = (("a", 0), ("c", ""), ("d", False))
    assert [one.declare_parameter(name, default).value for name, default in defaults] == [2, "text", True]
    assert list(one.declare_parameter("deep.b", [0.0]).value) == [1.0, 2.0]
    assert two.declare_parameter("a", 0).value == 5
    with pytest.raises(ros.InvalidParameterTypeException):
        two.declare_parameter("c", 1)
    for node in (one, two):
        node.destroy_node()


# Names


def test_names_follow_namespace_and_remaps(join):
    join("--ros-args", "-r", "__ns:=/cell", "-r", "near:__node:=renamed", "-r", "chatter:=talk", "-r", "~/private:=/open")
    node = Node("near")
    assert (node.get_name(), node.get_namespace(), node.get_fully_qualified_name()) == ("renamed", "/cell", "/cell/renamed")
    assert node.create_publisher(String, "chatter", 1).topic_name == "/cell/talk"
    assert node.create_publisher(String, "~/private", 1).topic_name == "/open"
    assert node.create_publisher(String, "/absolute", 1).topic_name == "/absolute"
    assert node.create_client(std_srvs.srv.Empty, "~/own").service_name == "/cell/renamed/own"
    node.destroy_node()


def test_names_that_ros_does_not_take_are_refused(graph):
    with pytest.raises(ros.InvalidNodeNameException):
        Node("1st")
    with pytest.raises(ros.InvalidNamespaceException):
        Node("first", namespace="/a//b")
    node = Node("first")
    with pytest.raises(ros.InvalidTopicNameException):
        node.create_publisher(String, "no spaces", 1)
    node.destroy_node()


def test_without_init_there_is_no_node():
    with pytest.raises(ros.NotInitializedException):
        Node("early")


# Lifecycle


def test_a_lifecycle_goes_through_its_states(graph, until):
    seen = []

    class Managed(LifecycleNode):
        def on_configure(self, state):
            seen.append(("configure", state.label))
            return super().on_configure(state)

        def on_activate(self, state):
            if len(seen) == 1:
                seen.append(("activate", state.label))
                return TransitionCallbackReturn.FAILURE
            return super().on_activate(state)

        def on_deactivate(self, state):
            raise ValueError("fails")

        def on_error(self, state):
            seen.append(("error", state.label))
            return TransitionCallbackReturn.SUCCESS

    node = Managed("managed")
    steps = [node.trigger_configure(), node.trigger_activate(), node.trigger_activate(), node.trigger_deactivate()]
    good, bad, error = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE, TransitionCallbackReturn.ERROR
    assert steps == [good, bad, good, error]
    assert seen == [("configure", "unconfigured"), ("activate", "inactive"), ("error", "active")]
    assert node.trigger_configure() == good  # the error was dealt with: unconfigured again
    assert node.trigger_shutdown() == good
    node.destroy_node()


def test_the_life_of_another_process_is_managed_by_services(node, executor, start_peer, until):
    counted, events = [], []
    with start_peer("--ros-args", "-r", "__ns:=/alone"):
        node.create_subscription(std_msgs.msg.Int32, "/alone/count", counted.append, 10)
        event = lifecycle_msgs.msg.TransitionEvent
        told = node.create_subscription(event, "/alone/peer/transition_event", events.append, 10)
        until(executor, lambda: told.get_publisher_count() == 1)
        change = node.create_client(lifecycle_msgs.srv.ChangeState, "/alone/peer/change_state")
        state = node.create_client(lifecycle_msgs.srv.GetState, "/alone/peer/get_state")
        assert change.wait_for_service(timeout_sec=20) and state.wait_for_service(timeout_sec=20)

        def ask(client, request):
            future = client.call_async(request)
            until(executor, future.done)
            return future.result()

        def go(number):
            request = lifecycle_msgs.srv.ChangeState.Request(transition=lifecycle_msgs.msg.Transition(id=number))
            return ask(change, request).success

        assert ask(state, lifecycle_msgs.srv.GetState.Request()).current_state.label == "unconfigured"
        assert go(1) and counted == []  # configured: its publisher is silent
        assert go(3)
        until(executor, lambda: counted)
        assert go(4) and not go(2)  # its cleaning up fails
        assert ask(state, lifecycle_msgs.srv.GetState.Request()).current_state.label == "inactive"
        until(executor, lambda: len(events) >= 8)
        assert [(one.start_state.label, one.goal_state.label) for one in events[:4]] == [
            ("unconfigured", "configuring"), ("configuring", "inactive"), ("inactive", "activating"), ("activating", "active"),
        ]  # fmt: skip


# Time


def test_simulated_time_moves_clock_and_timers(join, until):
    join("--ros-args", "-p", "use_sim_time:=true")
    node = Node("near")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    ticks = []
    publisher = node.create_publisher(rosgraph_msgs.msg.Clock, "/clock", 10)
    until(executor, lambda: publisher.get_subscription_count() == 1)

    def show(seconds):
        stamp = builtin_interfaces.msg.Time(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
        told = rosgraph_msgs.msg.Clock(clock=stamp)
        until(executor, lambda: publisher.publish(told) or node.get_clock().now() == Time.from_msg(stamp))

    show(100.0)
    node.create_timer(1.0, lambda: ticks.append(node.get_clock().now().nanoseconds / 1e9))
    show(100.9)
    assert ticks == []
    show(101.25)
    until(executor, lambda: ticks)
    show(102.5)
    until(executor, lambda: len(ticks) == 2)
    assert ticks == [101.25, 102.5]
    node.destroy_node()


def test_times_and_durations_add_up():
    time = Time(seconds=1, nanoseconds=500)
    assert (time + Duration(seconds=1.5)).nanoseconds == 2_500_000_500
    assert time - Time(seconds=1) == Duration(nanoseconds=500)
    assert Time.from_msg(time.to_msg()).nanoseconds == time.nanoseconds
    assert (time.to_msg().sec, time.to_msg().nanosec) == (1, 500)


# Logging


def test_log_messages_reach_rosout_and_the_terminal(node, executor, peer, until, capfd):
    heard = []
    node.create_subscription(rcl_interfaces.msg.Log, "/rosout", heard.append, LATCHED)
    publisher = node.create_publisher(String, "/far/ping", 10)
    until(executor, lambda: publisher.get_subscription_count())
    until(executor, lambda: [one for one in heard if one.name == "far.peer"] or publisher.publish(String(data="log")))
    record = next(one for one in heard if one.name == "far.peer")
    assert (record.msg, record.level, record.function) == ("a word of warning", 30, "on_ping")
    assert record.file.endswith("peer.py") and record.line > 0
    node.get_logger().info("for the terminal")
    node.get_logger().debug("not shown")
    shown = capfd.readouterr().err
    assert "[INFO] [" in shown and "] [near]: for the terminal" in shown and "not shown" not in shown


def test_log_levels_come_from_the_command_line(join, capfd):
    join("--ros-args", "--log-level", "loud:=debug")
    assert ros.description() in capfd.readouterr().err  # the log names the backend
    node = Node("loud")
    node.get_logger().debug("shown now")
    for _ in range(3):
        node.get_logger().info("but once", once=True)
    node.destroy_node()
    shown = capfd.readouterr().err
    assert "shown now" in shown and shown.count("but once") == 1


def test_a_place_in_the_code_logs_with_one_severity(node):
    logger = node.get_logger()
    with pytest.raises(ValueError, match="severity cannot be changed"):
        for say in (logger.info, logger.warning):
            say("words")
