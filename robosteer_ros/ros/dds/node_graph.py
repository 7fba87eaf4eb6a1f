"""What a node sees of the graph: names as it resolves them, and who else is there."""

from __future__ import annotations

from robosteer_ros.ros.dds import names


class NodeGraph:
    """The part of Node that looks at the graph. Names are those of rclpy.node.Node."""

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        return self._resolve(topic, only_expand, is_service=False)

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        return self._resolve(service, only_expand, is_service=True)

    def _resolve(self, name: str, only_expand: bool, is_service: bool) -> str:
        absolute = names.expand(name, self._name, self._namespace, is_service)
        return absolute if only_expand else self._arguments.topic(absolute, self._name, self._namespace, is_service)

    def get_node_names(self) -> list[str]:
        return [name for name, _ in self._context.graph.nodes()]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return self._context.graph.nodes()

    def get_topic_names_and_types(self, no_demangle: bool = False) -> list[tuple[str, list[str]]]:
        return self._context.graph.names_and_types(("rt",))

    def get_service_names_and_types(self) -> list[tuple[str, list[str]]]:
        return self._context.graph.names_and_types(("rq", "rr"))

    def get_publisher_names_and_types_by_node(self, node_name: str, node_namespace: str, no_demangle: bool = False) -> list:
        return self._by_node(node_name, node_namespace, ("rt",), readers=False)

    def get_subscriber_names_and_types_by_node(self, node_name: str, node_namespace: str, no_demangle: bool = False) -> list:
        return self._by_node(node_name, node_namespace, ("rt",), readers=True)

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> list:
        return self._by_node(node_name, node_namespace, ("rq",), readers=True)

    def _by_node(self, name: str, namespace: str, kinds: tuple[str, ...], readers: bool) -> list:
        graph = self._context.graph
        return graph.names_and_types(kinds, graph.endpoints_of_node(name, namespace, readers))

    def count_publishers(self, topic_name: str) -> int:
        return self._context.graph.count(self.resolve_topic_name(topic_name), True)

    def count_subscribers(self, topic_name: str) -> int:
        return self._context.graph.count(self.resolve_topic_name(topic_name), False)

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list:
        return self._context.graph.endpoint_infos(self.resolve_topic_name(topic_name), True)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list:
        return self._context.graph.endpoint_infos(self.resolve_topic_name(topic_name), False)
