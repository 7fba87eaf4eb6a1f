"""What was on the graph, as MCAP: of an episode, of a run of a policy."""
