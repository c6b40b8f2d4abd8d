"""Real servers for the tests: Kafka, Redis and PostgreSQL as plain child processes on free loopback ports.

`python -m tests.services -- COMMAND` starts all three, runs the command with their addresses in its environment and
stops them again; `scripts/test` is that with pytest. A test that must break a server starts a private one instead:

    server = KafkaServer(libs, tmp_path / "kafka", KafkaServer.free_port())
    server.start(); server.wait_ready(); server.pause(); server.resume(); server.kill(); server.start(); server.stop()
"""
