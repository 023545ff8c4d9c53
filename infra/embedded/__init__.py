"""A real Kafka and a real Postgres as child processes: everything one machine needs, under one data folder.

Nothing is installed and no Docker is needed: Java, Kafka's jars and Postgres all come with Python packages or
are fetched once, pinned by hash. The rest of Refold does not know whether its servers are these or a cluster.
"""
