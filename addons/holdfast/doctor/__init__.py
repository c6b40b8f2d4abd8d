"""`holdfast doctor`: what is wrong with this machine and this profile, and what to do about each. It changes nothing.

    finding             what every examination gives: a name, a status, what was found, what to do
    case                what is examined: a profile, or why there is none, and the environment
    examining           runs all examinations at once, each for a bounded time
    waiting             for what has no time limit of its own
    report              the findings for people and for programs

One module for each thing that is examined; each has `jobs(case)`, and each job asks and never writes:

    machine             interpreter, mitmproxy, open files, memory, proxy variables
    mitmproxy_options   what ~/.mitmproxy/config.yaml would do to the gateway
    wording             the profile: its faults, its doubts, its secrets
    ports, listeners    where it would listen, and who does already
    places              the folders and files of outbox, audit, spool and broker
    redis_server, kafka_cluster, kafka_topics, postgres_audit
    upstreams           the servers
    clock               this machine's against everybody else's
"""
