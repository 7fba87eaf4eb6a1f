"""One thin node per file around a driver or a core object. `python -m robosteer_ros.nodes.<name>` runs one."""
