"""The other process of the contract tests: a node with one of everything. Says "ready" when it is up, "bye" when it ends."""

import os
import signal
import sys
import threading

from robosteer_ros.ros import (
    DurabilityPolicy,
    ExternalShutdownException,
    LifecycleNode,
    QoSProfile,
    SingleThreadedExecutor,
    TransitionCallbackReturn,
    init,
    sensor_msgs,
    std_msgs,
    std_srvs,
    try_shutdown,
)

LATCHED = QoSProfile(depth=3, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Peer(LifecycleNode):
    def __init__(self):
        super().__init__("peer", namespace="/far")
        self.declare_parameter("gain", 1.5)
        self.declare_parameter("words", ["a", "b"])
        self.pong = self.create_publisher(std_msgs.msg.String, "pong", 100)
        self.create_subscription(std_msgs.msg.String, "ping", self.on_ping, 100)
        self.images = self.create_publisher(sensor_msgs.msg.Image, "image", 10)
        self.latched = self.create_publisher(std_msgs.msg.String, "latched", LATCHED)
        for number in range(5):
            self.latched.publish(std_msgs.msg.String(data=f"kept {number}"))
        self.create_service(std_srvs.srv.SetBool, "switch", self.on_switch)
        self.count = self.create_lifecycle_publisher(std_msgs.msg.Int32, "count", 10)
        self.counted = 0
        self.create_timer(0.02, self.on_timer)

    def on_ping(self, message):
        if message.data == "image":
            image = sensor_msgs.msg.Image(height=480, width=640, encoding="rgb8", step=1920)
            image.header.frame_id = "camera"
            image.data.frombytes(bytes(range(256)) * 3600)
            self.images.publish(image)
        elif message.data == "log":
            self.get_logger().warning("a word of warning")
        self.pong.publish(std_msgs.msg.String(data=f"{message.data} back"))

    def on_switch(self, request, response):
        response.success, response.message = request.data, "on" if request.data else "off"
        return response

    def on_timer(self):
        self.counted += 1
        self.count.publish(std_msgs.msg.Int32(data=self.counted))

    def on_cleanup(self, state):
        return TransitionCallbackReturn.FAILURE


def end_with_the_tests():
    """Standard input ends when the tests do, however they end."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main():
    threading.Thread(target=end_with_the_tests, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    init(args=sys.argv)
    node = Peer()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        print("ready", flush=True)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException) as ended:
        print(type(ended).__name__, flush=True)
    node.destroy_node()
    try_shutdown()
    print("bye", flush=True)


if __name__ == "__main__":
    main()
