"""The networks that containers are on.

A kernel that is alone in its session is on a bridge of its agent's, on which it reaches the world but no other kernel.
The kernels of a cluster session find each other by their host names (`main1`, `sub1`, …): on a bridge of their own
where they all are on one host, else on what `REFOLD_AGENT_CLUSTER_NETWORK` says of this agent. A network that lies over
several hosts is a plugin (`agents/docker/networks/plugin.py`): `overlay` and `host` come with Refold.
"""
