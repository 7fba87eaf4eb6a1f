"""What processes of the graph share: messages, their quality of service, and links to arm, cameras and policy."""
